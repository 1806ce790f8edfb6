// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixinuse

import (
	"errors"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/admissiontest"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
)

// scene is an allocation and who may stand on it.
type scene struct {
	parent, child *ipam.Prefix
	allocation    *ipam.PrefixAllocation
	reader        *admissiontest.Reader
}

func newScene(parentPrefix, prefix string) *scene {
	s := &scene{parent: admissiontest.Root("parent", parentPrefix), child: admissiontest.Child("parent", prefix)}
	s.child.Status.Phase = ipam.PrefixPhaseAllocated
	s.allocation = admissiontest.Of(s.child, admissiontest.Allocation("parent", prefix))
	s.allocation.Status = ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseAllocated, Prefix: prefix}
	s.reader = &admissiontest.Reader{Live: []*ipam.Prefix{s.parent, s.child}}
	return s
}

func TestValidate(t *testing.T) {
	for _, family := range []struct{ parent, prefix, other string }{
		{"10.0.0.0/8", "10.0.1.0/24", "10.0.2.0/24"},
		{"2001:db8::/32", "2001:db8:1::/48", "2001:db8:2::/48"},
	} {
		for _, test := range []struct {
			name    string
			change  func(*scene)
			refused bool
		}{
			{"a live child", func(*scene) {}, true},
			{"a child that is being deleted", func(s *scene) { s.child.DeletionTimestamp = &metav1.Time{} }, true},
			{"with a finalizer", func(s *scene) { s.allocation.Finalizers = []string{"example.com/keep"} }, true},
			{"host bits", func(s *scene) {
				s.allocation.Status.Prefix = strings.Replace(s.allocation.Status.Prefix, "0/24", "1/24", 1)
			}, true},
			{"no child", func(s *scene) { s.reader.Live = []*ipam.Prefix{s.parent} }, false},
			{"another child of the name", func(s *scene) { s.child.UID = "another" }, false},
			{"a pending child", func(s *scene) { s.child.Status.Phase = ipam.PrefixPhasePending }, false},
			{"a child that stands elsewhere", func(s *scene) { s.child.Spec.Prefix = family.other }, false},
			{"a child of another namespace", func(s *scene) { s.child.Namespace = "other" }, false},
			{"pending", func(s *scene) {
				s.allocation.Status = ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhasePending}
			}, false},
			{"failed", func(s *scene) {
				s.allocation.Status = ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseFailed}
			}, false},
			{"of nobody", func(s *scene) { s.allocation.OwnerReferences = nil }, false},
			{"of something else", func(s *scene) { s.allocation.OwnerReferences[0].Kind = "Pod" }, false},
			{"only owned", func(s *scene) { s.allocation.OwnerReferences[0].Controller = nil }, false},
			{"of a parent that does not exist", func(s *scene) { s.reader.Live = []*ipam.Prefix{s.child} }, false},
			{"memory is behind: the child is gone", func(s *scene) { s.reader.Live, s.reader.Cached = s.reader.Live[:1], s.reader.Live }, false},
			{"a read fails", func(s *scene) { s.reader.Err = errors.New("no") }, false},
		} {
			t.Run(test.name+" "+family.prefix, func(t *testing.T) {
				s := newScene(family.parent, family.prefix)
				test.change(s)
				p, err := New(nil)
				if err != nil {
					t.Fatal(err)
				}
				p.SetReader(s.reader)
				_, err = admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Delete, s.allocation, ""))
				if test.refused && (!apierrors.IsConflict(err) || !strings.Contains(err.Error(), "Prefix child") || !strings.Contains(err.Error(), family.prefix)) || !test.refused && err != nil {
					t.Errorf("answered %v", err)
				}
				for _, a := range []admission.Attributes{
					admissiontest.Attributes(admission.Update, s.allocation, ""),
					admissiontest.Attributes(admission.Create, s.allocation, "binding"),
					admissiontest.Attributes(admission.Delete, s.allocation, "status"),
					admissiontest.Attributes(admission.Delete, s.child, ""),
				} {
					if _, err := admissiontest.Validate(t.Context(), p, a); err != nil {
						t.Errorf("%s of %s %q: %v", a.GetOperation(), a.GetName(), a.GetSubresource(), err)
					}
				}
			})
		}
	}
}

func TestItTakesNoConfiguration(t *testing.T) {
	if _, err := New(admissiontest.Document(t, Kind, "action: Warn")); err == nil || !strings.Contains(err.Error(), `line 3: unknown field "action"`) {
		t.Errorf("answered %v", err)
	}
	p, err := New(nil)
	if err != nil || p.ValidateInitialization() == nil {
		t.Errorf("without a reader it is content, %v", err)
	}
	initializer.New(&initializer.Deferred{}, &initializer.Enforced{}).Initialize(p)
	if err := p.ValidateInitialization(); err != nil {
		t.Error(err)
	}
}
