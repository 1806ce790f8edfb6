// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/allocator"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/rules"
	"github.com/ironcore-dev/ipam-apiserver/pkg/request"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// refused fails the test unless an error has an exit code, and a message that can be printed.
func refused(t *testing.T, err error, code ExitCode) {
	t.Helper()
	if text := messageOf(err); codeOf(err) != code || text == "" || plaintext.Escape(strings.ReplaceAll(text, "\n", "")) != strings.ReplaceAll(text, "\n", "") {
		t.Fatalf("exit code %d and %q, not %d", codeOf(err), text, code)
	}
}

// FuzzTarget shows that the argument of who is refused, or means a range that is written in one way only.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"10.0.0.1", "10.0.0.0/8", "10.0.0.1/8", "2001:db8::1", "2001:DB8::/32", "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "fe80::1%eth0", "010.0.0.1", "10.0.0.0/08", "/", "0.0.0.0/0", "::/0",
		"10.0.0.0/33", "\x1b[31m", "10.0.0.1\n", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		target, err := parseTarget(arg)
		if err != nil {
			refused(t, exitf(ExitUsage, "%s: %w", arg, err), ExitUsage)
			return
		}
		if !target.IsValid() || target != target.Masked() || target.Addr().Is4In6() || target.Addr().Zone() != "" {
			t.Fatalf("%q is %v", arg, target)
		}
		for _, written := range []string{target.String(), printTarget(target)} {
			if again, err := parseTarget(written); err != nil || again != target {
				t.Fatalf("%q is %v, and %q is %v, %v", arg, target, written, again, err)
			}
		}
	})
}

// FuzzReservation shows that the argument of reserve is refused, or means what is written into the policy, and that this is
// found again by the same argument and by what is shown of it.
func FuzzReservation(f *testing.F) {
	for _, seed := range []string{"edges", "10.0.0.0/24", "10.0.0.1", "10.0.0.1-10.0.0.9", "10.0.0.9-10.0.0.1", "2001:db8::1-2001:db8::ff", "10.0.0.1-2001:db8::1", "::ffff:10.0.0.1", "10.0.0.1-", "-", "--", "-10.0.0.1",
		"10.0.0.0-10.0.0.255", "fe80::1%a-b", "10.0.0.0/24-10.0.1.0", "0.0.0.0-255.255.255.255", "edges ", "\u202e", ""} {
		f.Add(seed, "routers")
	}
	f.Fuzz(func(t *testing.T, arg, reason string) {
		r, err := parseReservation(arg, reason)
		if err != nil {
			refused(t, err, ExitUsage)
			return
		}
		ways := 0
		for _, is := range []bool{r.Edges, r.CIDR != "", r.From != "" && r.To != ""} {
			if is {
				ways++
			}
		}
		inside, err := rangeOf(r)
		if ways != 1 || r.Reason != reason || err != nil || r.Edges != (len(inside) == 0) {
			t.Fatalf("%q is %+v, %v, %v", arg, r, inside, err)
		}
		for i, prefix := range inside {
			if !prefix.IsValid() || prefix != prefix.Masked() || prefix.Addr().Is4In6() || i > 0 && cidr.Last(inside[i-1]).Next() != prefix.Addr() {
				t.Fatalf("%q is %v", arg, inside)
			}
		}
		if from, err := netip.ParseAddr(r.From); r.From != "" && (err != nil || inside[0].Addr() != from || cidr.Last(inside[len(inside)-1]).String() != netip.MustParseAddr(r.To).String()) {
			t.Fatalf("%q is %v", arg, inside)
		}
		again, err := parseReservation(rules.RangeOf(r), "")
		if err != nil || !sameRange(r, again) || !sameRange(again, r) {
			t.Fatalf("%q is shown as %q, which is %+v, %v", arg, rules.RangeOf(r), again, err)
		}
	})
}

// FuzzAudit shows that whatever a server serves as its metrics means an audit that can be printed, or none.
func FuzzAudit(f *testing.F) {
	for _, seed := range []string{"", "ipam_claims_compared_timestamp_seconds 1.7e+09\n", "ipam_claims_compared_timestamp_seconds{a=\"b\"} 1\nipam_claims_differences{kind=\"Overlap\"} 3\n",
		"ipam_claims_compared_timestamp_seconds NaN\n", "ipam_claims_compared_timestamp_seconds 1\nipam_claims_differences{kind=\"A\"} 1e308\nipam_claims_differences{x=\"\x1b\",kind=\"A\"} 2\n",
		"ipam_claims_compared_timestamp_seconds -1\r\n", strings.Repeat("x", 1<<12)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, metrics string) {
		audit, err := parseAudit(strings.NewReader(metrics))
		if err != nil {
			t.Fatal(err)
		}
		if audit == nil {
			return
		}
		again := fmt.Sprintf("ipam_claims_compared_timestamp_seconds %d\n", audit.Time.Unix())
		for kind, n := range audit.Differences {
			if n <= 0 {
				t.Fatalf("%d %s", n, kind)
			}
			again += fmt.Sprintf("ipam_claims_differences{kind=%q} %d\n", kind, n)
		}
		if text := audit.String(); plaintext.Escape(text) != text || (audit.count() == 0) != (text == "no differences") || audit.Time.Unix() < 0 || audit.Time.Year() > 9999 {
			t.Fatalf("%q at %v", text, audit.Time)
		}
		parsed, err := parseAudit(strings.NewReader(again))
		if err != nil || audit.Time.Unix() > 0 && (parsed == nil || !parsed.Time.Equal(audit.Time) || !maps.Equal(parsed.Differences, audit.Differences)) {
			t.Fatalf("%+v is written as %q, which is %+v, %v", audit, again, parsed, err)
		}
	})
}

// FuzzColumns shows that the argument of custom-columns is refused, or prints a line with each column for each item.
func FuzzColumns(f *testing.F) {
	for _, seed := range []string{"NAME:.name", "A:.a,B:{.b.c}", "A:a[*]", "A:.a[0:2]", "A:..a", "A:.a[?(@.b=='c')]", "A:.a[-1]", "A:", ":.a", "A", "A:.a,", "A:{", "A:}", "A:.a[", "A:.a['b.c']", "A:range .a", "A:{range .a[*]}{.b}{end}",
		"A:.a[?(@.b>1)]", "A:.a[::0]", "A:.b[5:1]", "A:end", "A:\"x\"", "\x1b[31m:.a", "A:.a.b.c.d"} {
		f.Add(seed)
	}
	document := map[string]any{"items": []any{
		map[string]any{"name": "x\x1b\n", "a": []any{map[string]any{"b": "c"}, map[string]any{"b": int64(2)}, nil}, "b": map[string]any{"c": 1.5}},
		map[string]any{"name": nil, "a": "text", "b": []any{}},
		"no object",
	}}
	f.Fuzz(func(t *testing.T, spec string) {
		columns, err := parseColumns(spec)
		if err != nil {
			refused(t, err, ExitUsage)
			return
		}
		if len(columns) != strings.Count(spec, ",")+1 {
			t.Fatalf("%q has %d columns", spec, len(columns))
		}
		var out bytes.Buffer
		if printColumns(&out, spec, document) != nil || strings.ContainsAny(spec, "\n\r\t\v\f\x1b") {
			return
		}
		if lines := strings.Count(out.String(), "\n"); lines != 4 || strings.ContainsAny(out.String(), "\x1b") {
			t.Fatalf("%q prints %q", spec, out.String())
		}
	})
}

// FuzzReadYAML shows that a file of Prefixes is refused, or that what export writes of it means the same.
func FuzzReadYAML(f *testing.F) {
	const object = "apiVersion: ipam.ironcore.dev/v1alpha1\nkind: Prefix\nmetadata:\n  name: a\nspec:\n  prefix: 10.0.0.0/8\n"
	for _, seed := range []string{"", object, object + "---\n" + object, "---\n---\n", strings.Replace(object, "Prefix\n", "PrefixList\n", 1), strings.Replace(object, "10.0.0.0", "10.0.0.1", 1), strings.Replace(object, "v1alpha1", "v2", 1),
		`{"apiVersion":"ipam.ironcore.dev/v1alpha1","kind":"PrefixList","items":[{"metadata":{"name":"a"},"spec":{"prefixLength":24,"parentRef":{"name":"b"}}},{}]}`,
		"apiVersion: ipam.ironcore.dev/v1alpha1\nkind: PrefixAllocation\n", "apiVersion: v1\nkind: List\nitems: []\n", "a: &a [*a]\n", "- 1\n", "\x00", "kind: Prefix\n", "\xff\xfe", "a: b: c\n",
		strings.Replace(object, "name: a", "name: a\n  annotations: {b: \"\\x7f\\u009b\\uFEFF\\U0001F600\"}", 1), object + "  prefixLength: 99999999999\n", object + "  parentSelector: {matchExpressions: [{key: a, operator: Near}]}\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		records, err := readYAML(data)
		if err != nil {
			if len(records) > 0 {
				t.Fatalf("%d records with %v", len(records), err)
			}
			refused(t, err, ExitInvalid)
			return
		}
		var out bytes.Buffer
		var valid []*record
		for _, r := range records {
			if r.err != nil {
				refused(t, exitf(ExitInvalid, "%w", r.err), ExitInvalid)
				continue
			}
			p := r.object
			if prefix, err := cidr.Parse(p.Spec.Prefix); p.Name == "" || !r.hasParent || p.Spec.Prefix != "" && (err != nil || prefix != r.prefix) {
				t.Fatalf("%+v: %+v", r, p)
			}
			written := p.DeepCopy()
			written.GetObjectKind().SetGroupVersionKind(kindOf(v1alpha1.PrefixKind))
			out.WriteString("---\n")
			if err := printYAML(&out, written); err != nil {
				t.Fatal(err)
			}
			valid = append(valid, r)
		}
		again, err := readYAML(out.Bytes())
		if err != nil || len(again) != len(valid) {
			t.Fatalf("what is written cannot be read: %v, %d instead of %d:\n%s", err, len(again), len(valid), out.String())
		}
		for i, r := range again {
			if r.err != nil || !equality.Semantic.DeepEqual(r.object, valid[i].object) {
				t.Fatalf("%v\n%+v\n%+v", r.err, r.object, valid[i].object)
			}
		}
	})
}

// FuzzStatus shows that the commands can read and print whatever another server writes into a Prefix.
func FuzzStatus(f *testing.F) {
	for _, seed := range [][3]string{{"10.0.0.0/24", "10.0.0.0/25,10.0.0.128/26", "/26"}, {"10.0.0.1/24", "", ""}, {"2001:db8::/32", "2001:db8::/33", "/33"}, {"::ffff:10.0.0.0/104", "10.0.0.0/8", "/-1"},
		{"x", "10.0.0.0/0,,\x1b", "/99999999999999999999"}, {"0.0.0.0/0", "0.0.0.0/0", "\u202e"}, {"10.0.0.0/32", "10.0.0.0/32,10.0.0.0/31", "32"}} {
		f.Add(seed[0], seed[1], seed[2], "Overlap", "1", int64(3), int32(101), uint8(24))
	}
	f.Fuzz(func(t *testing.T, prefix, used, largest, text, number string, allocations int64, percent int32, length uint8) {
		parent := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: text, Name: "parent" + text, UID: types.UID(text), Labels: map[string]string{text: text},
			OwnerReferences: []metav1.OwnerReference{{Kind: text, Name: text}}}}
		parent.Spec.Prefix, parent.Status.Phase = prefix, v1alpha1.PrefixPhaseAllocated
		parent.Status.Used = strings.Split(used, ",")
		parent.Status.Usage = &v1alpha1.PrefixUsage{Total: number, Used: number, Free: number, Reserved: number, Cooling: number, Allocations: allocations, Percent: percent, LargestFree: largest}
		child := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: text, Name: "child"}}
		child.Spec.ParentRef, child.Spec.PrefixLength = &v1alpha1.LocalObjectReference{Name: parent.Name}, int32(length)
		child.Status.Phase = v1alpha1.PrefixPhase(text)
		child.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAllocated, Reason: v1alpha1.ReasonPrefixInUse, Message: text}, {Type: text, Reason: text, Message: text}}

		var out, errOut bytes.Buffer
		s := newSession(Options{IOStreams: genericiooptions.IOStreams{In: &bytes.Buffer{}, Out: &out, ErrOut: &errOut}, IsTerminal: func(any) bool { return true }})
		s.output = "wide"
		trees := (&forest{nodes: []*node{newNode(parent, labels.Everything()), newNode(child, labels.Everything())}}).link()
		w := &treeWriter{session: s, treeOptions: &treeOptions{showFree: true}, result: result{kind: "PrefixTree", columns: slices.Repeat([]column{{name: "X"}}, 9)}}
		w.result.each = func(yield func(row) bool) {
			w.add = func(r row) { yield(r) }
			w.siblings(text, nil, trees.roots, 0, "")
		}
		if err := s.print(w.result); err != nil {
			t.Fatal(err)
		}
		if held, ok := heldBy(parent); ok {
			if pool, err := allocator.New(held); err == nil {
				for _, used := range parent.Status.Used {
					if prefix, err := cidr.ParseStored(used); err == nil {
						takeRest(pool, prefix)
					}
				}
			}
		}
		if asked, err := request.OfPrefix(&child.Spec); err == nil {
			item := judge(child, parent, asked, &policySet{})
			s.printLines(append(whatHelps(child, asked, nil, []whyItem{item}), item.Message, item.LargestFree))
		}
		for _, text := range []string{out.String(), errOut.String()} {
			if plain := strings.ReplaceAll(text, "\n", ""); plaintext.Escape(plain) != plain {
				t.Fatalf("it prints %q", text)
			}
		}
	})
}
