// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unique"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestOverlaps compares the overlaps that are found with a comparison of each pair.
func TestOverlaps(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewSource(6))
	for range 1000 {
		holdings := make([]holding, random.Intn(8))
		for i := range holdings {
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.Intn(256))}), 24+random.Intn(9)).Masked()
			holdings[i] = holding{prefix, fmt.Sprint(i)}
		}
		// Each prefix that overlaps another one is found, except the outermost ones.
		want := 0
		for i, h := range holdings {
			if slices.ContainsFunc(holdings, func(other holding) bool {
				return other.prefix.Overlaps(h.prefix) && (other.prefix.Bits() < h.prefix.Bits() || other.prefix == h.prefix && other.name < fmt.Sprint(i))
			}) {
				want++
			}
		}
		if got := overlaps(types.NamespacedName{}, slices.Clone(holdings)); len(got) != want {
			t.Fatalf("%v: %d overlaps instead of %d: %v", holdings, len(got), want, got)
		}
	}
}

func TestCheckAllocation(t *testing.T) {
	t.Parallel()
	prefixes := func() checkedPrefixes {
		p := checkedPrefixes{"a": {
			{name: "root", uid: hashOf("1"), prefix: netip.MustParsePrefix("10.0.0.0/8"), parent: unique.Make("")},
			{name: "child", uid: hashOf("2"), prefix: netip.MustParsePrefix("10.1.0.0/16"), parent: unique.Make("root"), isChild: true},
			{name: "pending", uid: hashOf("3"), parent: unique.Make("root")},
		}}
		p.sort("a")
		return p
	}
	for _, tt := range []struct {
		name, parent, prefix, owner string
		uid                         types.UID
		want                        string
	}{
		{"good", "root", "10.1.0.0/16", "child", "2", ""},
		{"not completed yet", "root", "10.2.0.0/16", "pending", "3", ""},
		{"of nobody", "root", "10.2.0.0/16", "", "", ""},
		{"outside", "root", "11.0.0.0/16", "", "", outsideParent},
		{"as large as the parent", "root", "10.0.0.0/8", "", "", outsideParent},
		{"not a prefix", "root", "10.0.0.0", "", "", outsideParent},
		{"of a parent that has nothing", "pending", "10.2.0.0/16", "", "", outsideParent},
		{"of no parent", "missing", "10.2.0.0/16", "", "", parentMissing},
		{"without a parent", "", "10.2.0.0/16", "", "", parentMissing},
		{"of a child that is gone", "root", "10.2.0.0/16", "gone", "9", leftover},
		{"cooling for a child that is gone", "root", "10.2.0.0/16", "gone", "9", ""},
		{"cooling outside of the parent", "root", "11.0.0.0/16", "gone", "9", outsideParent},
		{"of a child that was made again", "root", "10.1.0.0/16", "child", "9", leftover},
		{"of a child that has something else", "root", "10.2.0.0/16", "child", "2", leftover},
	} {
		a := &v1alpha1.PrefixAllocation{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "x"}}
		if tt.parent != "" {
			a.Spec.PrefixRef = &v1alpha1.LocalObjectReference{Name: tt.parent}
		}
		a.Status.Phase, a.Status.Prefix = v1alpha1.PrefixAllocationPhaseAllocated, tt.prefix
		if tt.owner != "" {
			yes := true
			a.OwnerReferences = []metav1.OwnerReference{{APIVersion: "ipam.ironcore.dev/v1alpha1", Kind: "Prefix", Name: tt.owner, UID: tt.uid, Controller: &yes}}
		}
		if strings.HasPrefix(tt.name, "cooling") {
			a.Status.CoolingUntil = &metav1.Time{}
		}
		got := ""
		for _, d := range checkAllocation(a, true, prefixes(), map[types.NamespacedName][]holding{}) {
			got += d.Type
		}
		if got != tt.want {
			t.Errorf("%s: %q instead of %q", tt.name, got, tt.want)
		}
	}
}

func TestReadCSV(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, csv string
		// want are the lines as "line name prefix parent", or with the error.
		want []string
		err  string
	}{
		{"our own", "namespace,name,prefix,length,family,parent,selector,labels,description\nn,a,10.0.0.0/8,,IPv4,,,team=x;site=y,\"All, of it\"\nn,b,,24,,a,,,\n",
			[]string{"2 a 10.0.0.0/8 ", "3 b /24 a"}, ""},
		{"NetBox", "prefix,status,vrf,tenant,site,description,is_pool\n10.0.0.0/8,Container,Global,Team A,HQ,The rest,True\n10.1.0.0/16,Active,,,,,\n",
			[]string{"2 10-0-0-0-8 10.0.0.0/8 ", "3 10-1-0-0-16 10.1.0.0/16 "}, ""},
		{"byte order mark, blanks and carriage returns", "\ufeff Name , Prefix \r\na, 2001:db8::/32 \r\n", []string{"2 a 2001:db8::/32 "}, ""},
		{"IPv6 without a name", "prefix\n2001:db8::/32\n", []string{"2 2001-0db8-0000-0000-0000-0000-0000-0000-32 2001:db8::/32 "}, ""},
		{"mistakes", "name,prefix,length,family,parent,labels\na,10.0.0.1/8\nb,10.0.0.0,\nC,10.0.0.0/8\nd,,99999\ne,,24\nf\ng,10.0.0.0/8,,IPv6\nh,10.0.0.0/8,,5\ni,10.0.0.0/8,,,,x\nj,1,2,3,4,5,6,7\n,,24,,p\n",
			[]string{"2 did you mean", "3 with a length", "4 name:", "5 length:", "6 a parent or a selector", "7 neither", "8 is not IPv6", "9 must be IPv4 or IPv6", "10 labels:", "11 fields", "12 needs a name"}, ""},
		{"empty", "", nil, "empty"},
		{"semicolons", "name;prefix\na;10.0.0.0/8\n", nil, "commas"},
		{"no prefix", "name,cidr\n", nil, "neither"},
		{"twice", "prefix,prefix\n", nil, "twice"},
		{"quote", "prefix\n\"10.0.0.0/8\n", nil, "line 2"},
		{"no lines", "prefix\n", nil, ""},
	} {
		records, err := readCSV(strings.NewReader(tt.csv))
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || tt.err == "" && err != nil {
			t.Errorf("%s: %v instead of %q", tt.name, err, tt.err)
		}
		if len(records) != len(tt.want) {
			t.Errorf("%s: %d lines instead of %d", tt.name, len(records), len(tt.want))
			continue
		}
		for i, r := range records {
			line, want, _ := strings.Cut(tt.want[i], " ")
			got := ""
			if r.err != nil {
				got = r.err.Error()
			} else {
				prefix := r.object.Spec.Prefix
				if prefix == "" {
					prefix = fmt.Sprintf("/%d", r.object.Spec.PrefixLength)
				}
				got = fmt.Sprintf("%s %s %s", r.object.Name, prefix, parentOf(r.object))
			}
			if fmt.Sprint(r.line) != line || r.err == nil && got != want || !strings.Contains(got, want) {
				t.Errorf("%s: line %d is %q instead of %q", tt.name, r.line, got, tt.want[i])
			}
		}
	}
	records, err := readCSV(strings.NewReader("prefix,tenant,labels,description\n10.0.0.0/8,Team Ä / 1,a=b;tenant=own,\"x\"\"y\"\n"))
	if err != nil || len(records) != 1 || records[0].err != nil {
		t.Fatalf("%+v %v", records, err)
	}
	if p := records[0].object; p.Labels["a"] != "b" || p.Labels["tenant"] != "own" || p.Annotations[descriptionAnnotation] != `x"y` {
		t.Errorf("%v %v", p.Labels, p.Annotations)
	}
}

// TestFindParents compares the parents that are found with the smallest of all that contain a prefix.
func TestFindParents(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewSource(7))
	for range 300 {
		seen := map[netip.Prefix]bool{}
		var records []*record
		var there []*node
		for range random.Intn(40) {
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(random.Intn(4)), byte(random.Intn(4)), 0}), 8+random.Intn(20)).Masked()
			if seen[prefix] {
				continue
			}
			seen[prefix] = true
			if random.Intn(3) == 0 {
				there = append(there, &node{NamespacedName: types.NamespacedName{Name: nameOf(prefix)}, prefix: prefix})
				continue
			}
			r := &record{prefix: prefix, object: &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: nameOf(prefix)}}}
			r.object.Spec.Prefix = prefix.String()
			records = append(records, r)
		}
		findParents(records, there)
		for _, r := range records {
			want := ""
			bits := -1
			for prefix := range seen {
				if prefix != r.prefix && contains(prefix, r.prefix) && prefix.Bits() > bits {
					want, bits = nameOf(prefix), prefix.Bits()
				}
			}
			if got := parentOf(r.object); got != want {
				t.Fatalf("the parent of %s is %q instead of %q", r.prefix, got, want)
			}
		}
	}
}

// contains reports whether a range contains another one, or is equal to it.
func contains(prefix, other netip.Prefix) bool {
	return prefix.Bits() <= other.Bits() && prefix.Contains(other.Addr())
}
