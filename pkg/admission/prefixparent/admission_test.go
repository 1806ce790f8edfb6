// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixparent

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/admissiontest"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
)

func TestValidate(t *testing.T) {
	four, six := admissiontest.Root("four", "10.0.0.0/24"), admissiontest.Root("six", "2001:db8::/48")
	ending := admissiontest.Root("ending", "10.0.0.0/24")
	ending.DeletionTimestamp = &metav1.Time{}
	pending := admissiontest.Child("four", "/26")
	pending.Name = "pending"
	elsewhere := admissiontest.Root("elsewhere", "10.0.0.0/24")
	elsewhere.Namespace = "other"
	// A transaction can check a parent of the own namespace for a child at a depth of 124 bits, and a parent of another
	// namespace at 123.
	all, shared := admissiontest.Root("all", "::/0"), admissiontest.Root("shared", "::/0")
	shared.Namespace = "other"
	fromShared := func(child *ipam.Prefix) *ipam.Prefix { child.Spec.ParentNamespace = "other"; return child }
	const ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:"
	reader := &admissiontest.Reader{Live: []*ipam.Prefix{four, six, ending, pending, elsewhere, all, shared}, SharedWith: map[string]string{"shared": admissiontest.Root("", "").Namespace}}
	of6 := func(child *ipam.Prefix) *ipam.Prefix { child.Spec.IPFamily = ipam.IPv6; return child }
	root := admissiontest.Root("child", "10.0.0.0/8")

	for _, test := range []struct {
		name string
		obj  runtime.Object
		// want is the warning. With Deny, the error contains it.
		want string
	}{
		{"a root", root, ""},
		{"a fitting length", admissiontest.Child("four", "/25"), ""},
		{"as large as the parent", admissiontest.Child("four", "/24"), "spec.prefixLength: four (10.0.0.0/24) is too small to hold a /24"},
		{"larger than the parent", admissiontest.Child("four", "/8"), "spec.prefixLength: four (10.0.0.0/24) is too small to hold a /8"},
		{"a fitting prefix", admissiontest.Child("four", "10.0.0.128/25"), ""},
		{"the parent itself", admissiontest.Child("four", "10.0.0.0/24"), "spec.prefix: four (10.0.0.0/24) is too small to hold 10.0.0.0/24"},
		{"outside", admissiontest.Child("four", "10.0.1.0/25"), "spec.prefix: four (10.0.0.0/24) does not contain 10.0.1.0/25"},
		{"another family", of6(admissiontest.Child("four", "/64")), "spec.ipFamily: four (10.0.0.0/24) is IPv4, not IPv6"},
		{"a prefix of another family", admissiontest.Child("four", "2001:db8::/64"), "spec.prefix: four (10.0.0.0/24) is IPv4, not IPv6"},
		{"a length of another family", admissiontest.Child("four", "/64"), "spec.prefixLength: four (10.0.0.0/24) is IPv4, which has no /64"},
		{"a fitting length of IPv6", of6(admissiontest.Child("six", "/64")), ""},
		{"a fitting prefix of IPv6", admissiontest.Child("six", "2001:db8:0:1::/64"), ""},
		{"too large of IPv6", admissiontest.Child("six", "/48"), "spec.prefixLength: six (2001:db8::/48) is too small to hold a /48"},
		{"outside of IPv6", admissiontest.Child("six", "2001:db8:1::/64"), "spec.prefix: six (2001:db8::/48) does not contain 2001:db8:1::/64"},
		{"a child at the limit", admissiontest.Child("all", ones+"fff8/125"), ""},
		{"a child that is too deep", admissiontest.Child("all", ones+"fffc/126"), "spec.prefix: all (::/0) is too large: " + ones + "fffc/126 is too far below it to be checked in one transaction; create a Prefix in between"},
		{"an allocation at the limit", admissiontest.Allocation("all", ones+"fffc/126"), ""},
		{"an allocation that is too deep", admissiontest.Allocation("all", ones+"fffe/127"), "spec.prefix: all (::/0) is too large: " + ones + "fffe/127 is too far below it to be checked in one transaction; create a Prefix in between"},
		{"at the limit of a shared parent", fromShared(admissiontest.Child("shared", ones+"fff0/124")), ""},
		{"too deep for a shared parent", fromShared(admissiontest.Child("shared", ones+"fff8/125")), "spec.prefix: other/shared (::/0) is too large: " + ones + "fff8/125 is too far below it to be checked in one transaction; create a Prefix in between"},
		{"few ones", admissiontest.Child("all", "::1/128"), ""},
		{"as deep by length", of6(admissiontest.Child("all", "/128")), ""},
		{"IPv4 of IPv6", admissiontest.Child("six", "10.0.0.0/24"), "spec.prefix: six (2001:db8::/48) is IPv6, not IPv4"},
		{"a parent that does not exist", admissiontest.Child("nobody", "/8"), ""},
		{"a parent of another namespace", admissiontest.Child("elsewhere", "/8"), ""},
		{"a parent that is being deleted", admissiontest.Child("ending", "/8"), ""},
		{"a pending parent", admissiontest.Child("pending", "/26"), "spec.prefixLength: pending is too small to hold a /26"},
		{"an allocation that fits", admissiontest.Allocation("four", "/25"), ""},
		{"an allocation that does not", admissiontest.Allocation("four", "/24"), "spec.prefixLength: four (10.0.0.0/24) is too small to hold a /24"},
		{"an allocation of a child", admissiontest.Of(root, admissiontest.Allocation("four", "/24")), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, fields := range []string{"", "action: Warn", "action: Deny"} {
				p, err := New(admissiontest.Document(t, Kind, fields))
				if err != nil {
					t.Fatal(err)
				}
				p.SetReader(reader)
				warnings, err := admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Create, test.obj, ""))
				if fields == "action: Deny" {
					path, why, _ := strings.Cut(test.want, ": ")
					var status apierrors.APIStatus
					switch {
					case len(warnings) > 0:
						t.Errorf("%s: warned of %q", fields, warnings)
					case test.want == "" && err != nil:
						t.Errorf("%s: refused with %v", fields, err)
					case test.want != "" && (!errors.As(err, &status) || status.Status().Code != http.StatusUnprocessableEntity ||
						!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), why)):
						t.Errorf("%s: answered %v", fields, err)
					}
				} else {
					var want admissiontest.Warnings
					if test.want != "" {
						want = append(want, test.want)
					}
					if err != nil || !slices.Equal(warnings, want) {
						t.Errorf("%s: warned of %q, %v", fields, warnings, err)
					}
				}
				admissiontest.ChecksOnlyCreate(t, p, test.obj)
			}
		})
	}
}

// TestNobodyIsRefusedInDoubt uses a reader that returns errors.
func TestNobodyIsRefusedInDoubt(t *testing.T) {
	small, large := []*ipam.Prefix{admissiontest.Root("parent", "10.0.0.0/24")}, []*ipam.Prefix{admissiontest.Root("parent", "10.0.0.0/8")}
	for name, test := range map[string]struct {
		reader  initializer.Reader
		refused bool
	}{
		"known":               {&admissiontest.Reader{Live: small}, true},
		"not ready":           {&initializer.Deferred{}, false},
		"failing":             {&admissiontest.Reader{Live: small, Err: errors.New("no")}, false},
		"behind: new parent":  {&admissiontest.Reader{Live: large, Cached: small}, false},
		"behind: gone":        {&admissiontest.Reader{Cached: small}, false},
		"behind: not yet":     {&admissiontest.Reader{Live: small, Cached: []*ipam.Prefix{}}, false},
		"behind: still large": {&admissiontest.Reader{Live: small, Cached: large}, false},
	} {
		p, err := New(admissiontest.Document(t, Kind, "action: Deny"))
		if err != nil {
			t.Fatal(err)
		}
		p.SetReader(test.reader)
		_, err = admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Create, admissiontest.Child("parent", "/24"), ""))
		if (err != nil) != test.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestItWantsAReader(t *testing.T) {
	p, err := New(nil)
	if err != nil || p.ValidateInitialization() == nil {
		t.Errorf("without a reader it is content, %v", err)
	}
	deferred := &initializer.Deferred{}
	initializer.New(deferred, &initializer.Enforced{}).Initialize(p)
	if err := p.ValidateInitialization(); err != nil {
		t.Error(err)
	}
	// A Deferred is ready as soon as it is set.
	deferred.Set(&admissiontest.Reader{Live: []*ipam.Prefix{admissiontest.Root("parent", "10.0.0.0/24")}})
	warnings, err := admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Create, admissiontest.Child("parent", "/24"), ""))
	if len(warnings) != 1 || err != nil {
		t.Errorf("warned of %q, %v", warnings, err)
	}
}

// TestAPrefixThatSelectsItself expects a warning, unless the selector matches another Prefix, too.
func TestAPrefixThatSelectsItself(t *testing.T) {
	const warning = "spec.parentSelector: matches this Prefix itself, which cannot be its own parent, and no other Prefix"
	pool, other, elsewhere := admissiontest.Root("pool", "10.0.0.0/8"), admissiontest.Root("other", "10.0.0.0/8"), admissiontest.Root("elsewhere", "10.0.0.0/8")
	pool.Labels, other.Labels, elsewhere.Labels = map[string]string{"pool": "a"}, map[string]string{"pool": "b"}, map[string]string{"pool": "a"}
	elsewhere.Namespace = "other"
	selecting := func(value string, labels map[string]string) *ipam.Prefix {
		child := admissiontest.Child("", "/24")
		child.Labels, child.Spec.ParentRef = labels, nil
		child.Spec.ParentSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": value}}
		return child
	}
	everything := selecting("", nil)
	everything.Spec.ParentSelector = &metav1.LabelSelector{}
	named := selecting("a", map[string]string{"pool": "a"})
	named.Spec.ParentRef = &ipam.LocalObjectReference{Name: "pool"}
	for _, test := range []struct {
		name  string
		child *ipam.Prefix
		live  []*ipam.Prefix
		err   error
		want  int
	}{
		{"itself only", selecting("a", map[string]string{"pool": "a"}), nil, nil, 1},
		{"itself, beside others", selecting("a", map[string]string{"pool": "a"}), []*ipam.Prefix{other, elsewhere}, nil, 1},
		{"itself and a pool", selecting("a", map[string]string{"pool": "a"}), []*ipam.Prefix{other, pool}, nil, 0},
		{"nothing", selecting("a", nil), []*ipam.Prefix{other}, nil, 0},
		{"everything, which is itself", everything, nil, nil, 1},
		{"everything", everything, []*ipam.Prefix{other}, nil, 0},
		{"a named parent", named, nil, nil, 0},
		{"nobody knows", selecting("a", map[string]string{"pool": "a"}), nil, errors.New("no"), 0},
	} {
		for _, fields := range []string{"", "action: Deny"} {
			p, err := New(admissiontest.Document(t, Kind, fields))
			if err != nil {
				t.Fatal(err)
			}
			p.SetReader(&admissiontest.Reader{Live: test.live, Err: test.err})
			warnings, err := admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Create, test.child, ""))
			if err != nil || len(warnings) != test.want || test.want > 0 && warnings[0] != warning {
				t.Errorf("%s, %q: %q, %v", test.name, fields, warnings, err)
			}
			for _, a := range []admission.Attributes{
				admissiontest.Attributes(admission.Update, test.child, ""), admissiontest.Attributes(admission.Create, test.child, "binding"),
			} {
				if warnings, err := admissiontest.Validate(t.Context(), p, a); err != nil || len(warnings) > 0 {
					t.Errorf("%s, %s of %q: %q, %v", test.name, a.GetOperation(), a.GetSubresource(), warnings, err)
				}
			}
		}
	}
}
