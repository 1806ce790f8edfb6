// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const tableType = "application/json;as=Table;v=v1;g=meta.k8s.io"

func (s server) table(t *testing.T, path string) metav1.Table {
	t.Helper()
	table := metav1.Table{}
	got := s.Do(t, http.MethodGet, path, harness.JSON, "", tableType)
	if got.Code != http.StatusOK {
		t.Fatalf("%s: got %d: %s", path, got.Code, got.Body)
	}
	got.Into(t, &table)
	if table.Kind != "Table" || table.ResourceVersion == "" {
		t.Errorf("%s: got %s with resourceVersion %q", path, table.Kind, table.ResourceVersion)
	}
	return table
}

// TestTablesAreWhatKubectlGetPrints checks the columns, their priorities and the rows: of a list, of one object and
// of its status.
func TestTablesAreWhatKubectlGetPrints(t *testing.T) {
	namespace := shared.population(t)
	parent := shared.Get(t, namespace, harness.PrefixKind, "parent")
	shared.write(t, parent, harness.MergePatch, "{status: {used: [10.0.1.0/24], usage: {total: '65536', used: '512', free: '65024', percent: 0, allocations: 2}}}", "status").Must(t)
	// This is the state that another server stores, without usage.
	shared.write(t, shared.Get(t, namespace, harness.PrefixKind, "child-allocated"), harness.MergePatch, "{status: {usage: null}}", "status").Must(t)
	for _, test := range []struct {
		kind    harness.Kind
		columns []string
		rows    [][]string
	}{
		{
			harness.PrefixKind, []string{"Name 0", "Prefix 0", "Parent 0", "Phase 0", "Age 0", "Family 1", "Used 1", "Free 1", "Use% 1"},
			[][]string{
				{"child", "<none>", "<none>", "Pending", "", "IPv4", "<none>", "<none>", "<none>"},
				{"child-allocated", "10.0.1.0/24", "parent", "Allocated", "", "IPv4", "0", "256", "0%"},
				{"child-by-ref", "<none>", "parent", "Pending", "", "IPv4", "<none>", "<none>", "<none>"},
				{"parent", "10.0.0.0/16", "<none>", "Allocated", "", "IPv4", "512", "65024", "0%"},
				{"root", "10.9.0.0/16", "<none>", "Pending", "", "IPv4", "<none>", "<none>", "<none>"},
				{"six", "2001:db8::/32", "<none>", "Pending", "", "IPv6", "<none>", "<none>", "<none>"},
			},
		},
		{
			harness.AllocationKind, []string{"Name 0", "Parent 0", "Request 0", "Phase 0", "Prefix 0", "Age 0", "Cooling Until 1"},
			[][]string{
				{"child-allocated", "parent", "10.0.1.0/24", "Allocated", "10.0.1.0/24", "", "<none>"},
				{"request", "<none>", "/24", "Pending", "<none>", "", "<none>"},
				{"request-allocated", "parent", "/24", "Allocated", "10.0.2.0/24", "", "<none>"},
				{"request-by-ref", "parent", "/24", "Pending", "<none>", "", "<none>"},
				{"request-failed", "<none>", "/24", "Failed", "<none>", "", "<none>"},
				{"request-six", "six", "2001:db8:1::/48", "Pending", "<none>", "", "<none>"},
			},
		},
	} {
		list := shared.table(t, harness.Path(namespace, test.kind))
		var columns []string
		age := -1
		for i, column := range list.ColumnDefinitions {
			columns = append(columns, fmt.Sprintf("%s %d", column.Name, column.Priority))
			if column.Type == "" || column.Description == "" {
				t.Errorf("%s: column %s is not described: %+v", test.kind.Name, column.Name, column)
			}
			if column.Name == "Age" {
				age = i
			}
		}
		if !slices.Equal(columns, test.columns) {
			t.Errorf("%s: got columns %q, not %q", test.kind.Name, columns, test.columns)
		}
		if list.ColumnDefinitions[0].Format != "name" {
			t.Errorf("%s: the first column is not the name", test.kind.Name)
		}
		if len(list.Rows) != len(test.rows) {
			t.Fatalf("%s: got %d rows", test.kind.Name, len(list.Rows))
		}
		check := func(row metav1.TableRow, want []string) {
			t.Helper()
			var got []string
			for _, cell := range row.Cells {
				got = append(got, cell.(string))
			}
			if age < len(got) && got[age] != "" && got[age] != "<unknown>" {
				got[age] = ""
			} else {
				t.Errorf("%s %q has no age", test.kind.Name, got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: got row %q, not %q", test.kind.Name, got, want)
			}
			object := metav1.PartialObjectMetadata{}
			harness.Answer{Body: row.Object.Raw}.Into(t, &object)
			if object.Kind != "PartialObjectMetadata" || object.Name != want[0] {
				t.Errorf("%s: the object of row %s is %s %s", test.kind.Name, want[0], object.Kind, object.Name)
			}
		}
		for i, row := range list.Rows {
			check(row, test.rows[i])
		}
		for _, want := range test.rows {
			for _, below := range [][]string{{want[0]}, {want[0], "status"}} {
				if one := shared.table(t, harness.Path(namespace, test.kind, below...)); len(one.Rows) != 1 {
					t.Errorf("%s %s: got %d rows", test.kind.Name, want[0], len(one.Rows))
				} else {
					check(one.Rows[0], want)
				}
			}
		}

		if limited := shared.table(t, harness.Path(namespace, test.kind)+"?limit=2"); len(limited.Rows) != 2 || limited.Continue == "" || limited.RemainingItemCount == nil || *limited.RemainingItemCount != 4 {
			t.Errorf("%s: a limited table has %d rows, continues with %q", test.kind.Name, len(limited.Rows), limited.Continue)
		}
		if whole := shared.table(t, harness.Path(namespace, test.kind)+"?includeObject=Object"); len(whole.Rows) != len(test.rows) || harness.At(harness.Answer{Code: 200, Body: whole.Rows[0].Object.Raw}.Must(t), "spec.ipFamily") != "IPv4" {
			t.Errorf("%s: the objects are %s", test.kind.Name, whole.Rows[0].Object.Raw)
		}
	}
}

// TestTheTableSaysWhatIsBeingDeleted checks that the column PHASE shows Terminating for an object that is being
// deleted, in every phase. The phase of the object itself does not change.
func TestTheTableSaysWhatIsBeingDeleted(t *testing.T) {
	for _, fixture := range []string{"root", "child", "child-allocated", "request", "request-allocated", "request-failed"} {
		namespace, obj := shared.setUp(t, fixture)
		k := fixtures[fixture].kind
		obj = shared.write(t, obj, harness.MergePatch, "{metadata: {finalizers: [example.com/wait, ipam.ironcore.dev/prefix]}}").Must(t)
		phase := func() any {
			t.Helper()
			list := shared.table(t, harness.Path(namespace, k, fixture))
			column := slices.IndexFunc(list.ColumnDefinitions, func(c metav1.TableColumnDefinition) bool { return c.Name == "Phase" })
			return list.Rows[0].Cells[column]
		}
		was := harness.At(obj, "status.phase")
		if got := phase(); got != was {
			t.Errorf("%s: PHASE is %v, its phase is %v", fixture, got, was)
		}
		deleting := shared.delete(t, obj, "").Must(t)
		if got := phase(); got != "Terminating" || harness.At(deleting, "status.phase") != was {
			t.Errorf("%s: PHASE is %v while it is being deleted, its phase is %v, was %v", fixture, got, harness.At(deleting, "status.phase"), was)
		}
	}
}

// TestTheTableOfAWatchHasItsColumnsOnce watches a table, as kubectl get -w does.
func TestTheTableOfAWatchHasItsColumnsOnce(t *testing.T) {
	namespace, _ := shared.setUp(t, "root")
	n := 0
	// The first events are the existing objects: the parent and the root.
	for event := range shared.Watch(t, harness.Path(namespace, harness.PrefixKind)+"?resourceVersion=0", tableType) {
		columns, _ := harness.At(event.Object, "columnDefinitions").([]any)
		rows, _ := harness.At(event.Object, "rows").([]any)
		if event.Object.GetKind() != "Table" || len(rows) != 1 || (n == 0) != (len(columns) > 0) {
			t.Errorf("event %d is %v", n, event.Object)
		}
		if n++; n == 2 {
			break
		}
	}
}
