// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/csv"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
)

// FuzzReadCSV shows that no file makes the parser fail otherwise than with an error, that lines without an error can be
// created, and that what export would write of them means the same.
func FuzzReadCSV(f *testing.F) {
	for _, seed := range []string{
		"", "prefix\n10.0.0.0/8\n", "name,prefix,labels\na,10.0.0.0/8,a=b;c=d\n", "name,length,parent,selector\na,24,,\"x in (a,b)\"\n",
		"prefix,tenant,description\n2001:db8::/32,\"a\"\"b\",\"x\ny\"\n", "\ufeffPrefix;x\n", "prefix,prefix\n", "length,name,family,selector\n/64,a,6,a=b\n",
		"name,prefix\n\x1b[31m,::ffff:10.0.0.0/104\n", "prefix\n\"", "namespace,name,prefix\nX,a,10.0.0.0/8\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file string) { checkCSV(t, file) })
}

// TestRandomCSV is FuzzReadCSV with files that are put together at random.
func TestRandomCSV(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewSource(8))
	parts := append([]string{",", ",", ",", "\n", "\n", "\r\n", "\"", ";", "=", " ", "a", "b-1", "A", "Team X", "ü", "\x1b", "x in (a,b)", "\"a,b\"", "\"x\"\"y\"", "k=v", "k=v;l=w", "k!=v",
		"10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/24", "10.0.0.0", "2001:db8::/32", "::ffff:10.0.0.0/104", "24", "/64", "0", "129", "IPv4", "6", "\ufeff"},
		slices.Concat(csvColumns, netboxLabels)...)
	good := 0
	for range 20_000 {
		var file strings.Builder
		// Without a header that makes sense, most files end with the same error.
		if random.Intn(4) > 0 {
			columns := slices.Concat(csvColumns, netboxLabels)
			random.Shuffle(len(columns), func(i, j int) { columns[i], columns[j] = columns[j], columns[i] })
			file.WriteString("prefix,name,")
			file.WriteString(strings.Join(slices.DeleteFunc(columns[:random.Intn(len(columns))], func(c string) bool { return c == "prefix" || c == "name" }), ","))
			file.WriteString("\n10.0.0.0/8,a,")
		}
		for range random.Intn(30) {
			file.WriteString(parts[random.Intn(len(parts))])
		}
		good += checkCSV(t, file.String())
	}
	if good < 1000 {
		t.Errorf("only %d lines are without an error", good)
	}
}

// checkCSV reads a file, and what export would write of its lines. It returns how many lines are without an error.
func checkCSV(t *testing.T, file string) (good int) {
	t.Helper()
	records, err := readCSV(strings.NewReader(file))
	if err != nil {
		if len(records) > 0 || codeOf(err) != ExitInvalid {
			t.Fatalf("%v, with %d records", err, len(records))
		}
		return 0
	}
	last := 1
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	if err := w.Write(csvColumns); err != nil {
		t.Fatal(err)
	}
	var valid []*record
	for _, r := range records {
		if r.line <= last {
			t.Fatalf("line %d follows line %d", r.line, last)
		}
		if last = r.line; r.err != nil {
			continue
		}
		p := r.object
		if len(validation.IsDNS1123Subdomain(p.Name)) > 0 || p.Spec.Prefix == "" && p.Spec.PrefixLength == 0 {
			t.Fatalf("line %d: %+v", r.line, p)
		}
		if prefix, err := cidr.Parse(p.Spec.Prefix); p.Spec.Prefix != "" && (err != nil || prefix != r.prefix) {
			t.Fatalf("line %d: %s: %v", r.line, p.Spec.Prefix, err)
		}
		for key, value := range p.Labels {
			if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
				t.Fatalf("line %d: label %q=%q", r.line, key, value)
			}
		}
		if err := writeCSVLine(w, p); err != nil {
			t.Fatalf("line %d: %v", r.line, err)
		}
		valid = append(valid, r)
	}
	w.Flush()
	again, err := readCSV(&out)
	if err != nil || len(again) != len(valid) {
		t.Fatalf("what is written cannot be read: %v, %d lines instead of %d:\n%s", err, len(again), len(valid), out.String())
	}
	for i, r := range again {
		if r.err != nil || !equality.Semantic.DeepEqual(r.object, valid[i].object) {
			t.Fatalf("%v\n%+v\n%+v", r.err, r.object, valid[i].object)
		}
	}
	return len(valid)
}
