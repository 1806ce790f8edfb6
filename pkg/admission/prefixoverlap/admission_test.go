// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixoverlap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/admissiontest"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
)

func TestValidate(t *testing.T) {
	ending := admissiontest.Root("ending", "192.168.0.0/16", "192.168.1.0/24")
	ending.DeletionTimestamp = &metav1.Time{}
	elsewhere := admissiontest.Root("elsewhere", "172.16.0.0/12")
	elsewhere.Namespace = "other"
	reader := &admissiontest.Reader{Live: []*ipam.Prefix{
		admissiontest.Root("four", "10.0.0.0/8", "10.0.0.0/24", "10.1.0.0/16"),
		admissiontest.Root("six", "2001:db8::/32", "2001:db8::/48"),
		ending, elsewhere, admissiontest.Root("late", "172.31.0.0/16", "172.31.0.0/24"),
	}, Held: map[string]map[string]string{
		"four": {"10.0.0.0/24": "Prefix a of Machine m", "10.1.0.0/16": "Prefix b"}, "six": {"2001:db8::/48": "PrefixAllocation c"},
	}}
	bySelector := admissiontest.Child("", "10.0.0.0/24")
	bySelector.Spec.ParentRef, bySelector.Spec.ParentSelector = nil, &metav1.LabelSelector{}

	for _, test := range []struct {
		name string
		obj  runtime.Object
		want []string
	}{
		{"a root of its own", admissiontest.Root("new", "11.0.0.0/8"), nil},
		{"a root inside another", admissiontest.Root("new", "10.0.0.0/24"), []string{"spec.prefix: 10.0.0.0/24 overlaps the root four (10.0.0.0/8)"}},
		{"the same root", admissiontest.Root("new", "10.0.0.0/8"), []string{"spec.prefix: 10.0.0.0/8 overlaps the root four (10.0.0.0/8)"}},
		{"a root around others", admissiontest.Root("new", "0.0.0.0/0"), []string{
			"spec.prefix: 0.0.0.0/0 overlaps the root four (10.0.0.0/8)", "spec.prefix: 0.0.0.0/0 overlaps the root ending (192.168.0.0/16)",
			"spec.prefix: 0.0.0.0/0 overlaps the root late (172.31.0.0/16)"}},
		{"a root of IPv6", admissiontest.Root("new", "2001:db8::/64"), []string{"spec.prefix: 2001:db8::/64 overlaps the root six (2001:db8::/32)"}},
		{"another root of IPv6", admissiontest.Root("new", "fd00::/8"), nil},
		{"all of IPv6 and none of IPv4", admissiontest.Root("new", "::/0"), []string{"spec.prefix: ::/0 overlaps the root six (2001:db8::/32)"}},
		{"over a root of another namespace", admissiontest.Root("new", "172.16.0.0/16"), nil},
		{"itself", admissiontest.Root("four", "10.0.0.0/8"), nil},

		{"a child by length", admissiontest.Child("four", "/24"), nil},
		{"a child in free space", admissiontest.Child("four", "10.2.0.0/16"), nil},
		{"a child inside used space", admissiontest.Child("four", "10.1.1.0/24"), []string{"spec.prefix: four (10.0.0.0/8) has 10.1.0.0/16 in use by Prefix b, which overlaps 10.1.1.0/24"}},
		{"a child around used space", admissiontest.Child("four", "10.0.0.0/16"), []string{"spec.prefix: four (10.0.0.0/8) has 10.0.0.0/24 in use by Prefix a of Machine m, which overlaps 10.0.0.0/16"}},
		{"a child of IPv6 over used space", admissiontest.Child("six", "2001:db8::/64"), []string{"spec.prefix: six (2001:db8::/32) has 2001:db8::/48 in use by PrefixAllocation c, which overlaps 2001:db8::/64"}},
		{"a child in space that is free by now", admissiontest.Child("late", "172.31.0.0/24"), nil},
		{"a child that never fits", admissiontest.Child("four", "10.0.0.0/8"), nil},
		{"a child of nobody", admissiontest.Child("nobody", "10.0.0.0/24"), nil},
		{"a child of a parent that is being deleted", admissiontest.Child("ending", "192.168.1.0/24"), nil},
		{"a child by selector", bySelector, nil},
		{"an allocation over used space", admissiontest.Allocation("four", "10.0.0.0/24"), []string{"spec.prefix: four (10.0.0.0/8) has 10.0.0.0/24 in use by Prefix a of Machine m, which overlaps 10.0.0.0/24"}},
		{"an allocation of a child", admissiontest.Of(admissiontest.Child("four", "10.0.0.0/24"), admissiontest.Allocation("four", "10.0.0.0/24")), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, fields := range []string{"", "roots: Warn\nchildren: Warn", "roots: Deny\nchildren: Deny", "roots: Allow\nchildren: Allow"} {
				p, err := New(admissiontest.Document(t, Kind, fields))
				if err != nil {
					t.Fatal(err)
				}
				p.SetReader(reader)
				warnings, err := admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Create, test.obj, ""))
				switch {
				case strings.Contains(fields, "Allow"):
					if err != nil || len(warnings) > 0 {
						t.Errorf("%s: %q, %v", fields, warnings, err)
					}
				case strings.Contains(fields, "Deny"):
					if (err != nil) != (len(test.want) > 0) || err != nil && !apierrors.IsInvalid(err) || len(warnings) > 0 {
						t.Errorf("%s: %q, %v", fields, warnings, err)
					}
					for _, want := range test.want {
						if path, why, _ := strings.Cut(want, ": "); !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), why) {
							t.Errorf("%s: %v lacks %q", fields, err, want)
						}
					}
				default:
					if err != nil || !slices.Equal(warnings, test.want) {
						t.Errorf("%s: warned of %q, %v", fields, warnings, err)
					}
				}
				admissiontest.ChecksOnlyCreate(t, p, test.obj)
			}
		})
	}
}

// TestRootsAndChildrenAreToldApart denies one of the two, and allows the other.
func TestRootsAndChildrenAreToldApart(t *testing.T) {
	reader := &admissiontest.Reader{Live: []*ipam.Prefix{admissiontest.Root("root", "10.0.0.0/8", "10.0.0.0/24")},
		Held: map[string]map[string]string{"root": {"10.0.0.0/24": "Prefix a"}}}
	root, child := admissiontest.Root("new", "10.0.0.0/16"), admissiontest.Child("root", "10.0.0.0/24")
	for _, test := range []struct {
		fields              string
		root, child         bool
		warnRoot, warnChild int
	}{
		{"roots: Deny", true, false, 0, 1},
		{"children: Deny", false, true, 1, 0},
		{"roots: Deny\nchildren: Allow", true, false, 0, 0},
	} {
		p, err := New(admissiontest.Document(t, Kind, test.fields))
		if err != nil {
			t.Fatal(err)
		}
		p.SetReader(reader)
		warnings, err := admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Create, root, ""))
		if (err != nil) != test.root || len(warnings) != test.warnRoot {
			t.Errorf("%q: the root: %q, %v", test.fields, warnings, err)
		}
		warnings, err = admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Create, child, ""))
		if (err != nil) != test.child || len(warnings) != test.warnChild {
			t.Errorf("%q: the child: %q, %v", test.fields, warnings, err)
		}
	}
}

// TestNobodyIsRefusedInDoubt uses a reader that returns errors.
func TestNobodyIsRefusedInDoubt(t *testing.T) {
	used, free := []*ipam.Prefix{admissiontest.Root("root", "10.0.0.0/8", "10.0.0.0/24")}, []*ipam.Prefix{admissiontest.Root("root", "11.0.0.0/8")}
	held := map[string]map[string]string{"root": {"10.0.0.0/24": "Prefix a"}}
	for name, test := range map[string]struct {
		reader  initializer.Reader
		refused bool
	}{
		"known":             {&admissiontest.Reader{Live: used, Held: held}, true},
		"not ready":         {&initializer.Deferred{}, false},
		"failing":           {&admissiontest.Reader{Live: used, Held: held, Err: errors.New("no")}, false},
		"behind: gone":      {&admissiontest.Reader{Cached: used}, false},
		"behind: made anew": {&admissiontest.Reader{Live: free, Cached: used}, false},
	} {
		for _, obj := range []*ipam.Prefix{admissiontest.Root("new", "10.0.0.0/16"), admissiontest.Child("root", "10.0.0.0/24")} {
			p, err := New(admissiontest.Document(t, Kind, "roots: Deny\nchildren: Deny"))
			if err != nil {
				t.Fatal(err)
			}
			p.SetReader(test.reader)
			if _, err := admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Create, obj, "")); (err != nil) != test.refused {
				t.Errorf("%s: %s: %v", name, obj.Name, err)
			}
		}
	}
}

// TestOfManyRootsAFewAreNamed shows that warnings name only a few of many overlapping roots.
func TestOfManyRootsAFewAreNamed(t *testing.T) {
	reader := &admissiontest.Reader{}
	for i := range 20 {
		reader.Live = append(reader.Live, admissiontest.Root(fmt.Sprintf("root-%d", i), fmt.Sprintf("10.%d.0.0/16", i)))
	}
	p, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.SetReader(reader)
	warnings, err := admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Create, admissiontest.Root("new", "10.0.0.0/8"), ""))
	if len(warnings) != validation.MaxOverlapsNamed || err != nil {
		t.Errorf("warned of %q, %v", warnings, err)
	}
}
