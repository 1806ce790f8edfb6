// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefixinuse

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/admissiontest"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

// scene is an allocation, and the Prefixes that may use it.
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
			{"of a Prefix of another group", func(s *scene) { s.allocation.OwnerReferences[0].APIVersion = "example.com/v1" }, false},
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

// TestParents tests the deletion of Prefixes with and without children.
func TestParents(t *testing.T) {
	held := func(n int) map[string]map[string]string {
		children := map[string]string{}
		for i := range n {
			children[fmt.Sprintf("10.0.%d.0/24", i)] = fmt.Sprintf("Prefix c-%d", i)
		}
		return map[string]map[string]string{"root": children}
	}
	ending := admissiontest.Root("root", "10.0.0.0/8")
	ending.DeletionTimestamp = &metav1.Time{}
	root := admissiontest.Root("root", "10.0.0.0/8")
	const three = `Prefix "root" has 3 children and remains until they are gone; this cannot be undone`
	for _, test := range []struct {
		name, fields string
		prefix       *ipam.Prefix
		reader       initializer.Reader
		refused      string
		warning      string
	}{
		{"by default", "", root, &admissiontest.Reader{Held: held(3)}, "", three},
		{"one", "", root, &admissiontest.Reader{Held: held(1)}, "", `Prefix "root" has 1 child and remains until it is gone; this cannot be undone`},
		{"none", "", root, &admissiontest.Reader{}, "", ""},
		{"warn", "parents: Warn", root, &admissiontest.Reader{Held: held(3)}, "", three},
		{"allow", "parents: Allow", root, &admissiontest.Reader{Held: held(3)}, "", ""},
		{"deny", "parents: Deny", root, &admissiontest.Reader{Held: held(3)}, "it has 3 children: delete what is allocated from it first", ""},
		{"deny, none", "parents: Deny", root, &admissiontest.Reader{}, "", ""},
		{"deny, again", "parents: Deny", ending, &admissiontest.Reader{Held: held(3)}, "", three},
		{"deny, failing", "parents: Deny", root, &admissiontest.Reader{Held: held(3), Err: errors.New("no")}, "", ""},
		{"deny, not ready", "parents: Deny", root, &initializer.Deferred{}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := New(admissiontest.Document(t, Kind, test.fields))
			if err != nil {
				t.Fatal(err)
			}
			p.SetReader(test.reader)
			warnings, err := admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Delete, test.prefix, ""))
			if (err != nil) != (test.refused != "") || err != nil && (!apierrors.IsConflict(err) || !strings.Contains(err.Error(), test.refused)) {
				t.Errorf("answered %v", err)
			}
			if got := strings.Join(warnings, "\n"); got != test.warning {
				t.Errorf("warned of %q", got)
			}
			for _, a := range []admission.Attributes{
				admissiontest.Attributes(admission.Create, test.prefix, ""),
				admissiontest.Attributes(admission.Update, test.prefix, ""),
				admissiontest.Attributes(admission.Update, test.prefix, "status"),
				admissiontest.Attributes(admission.Create, test.prefix, "binding"),
			} {
				if warnings, err := admissiontest.Validate(t.Context(), p, a); err != nil || len(warnings) > 0 {
					t.Errorf("%s of %q: %q, %v", a.GetOperation(), a.GetSubresource(), warnings, err)
				}
			}
		})
	}
}

// TestTheDeletionOfANamespaceIsNotDenied shows that parents in a namespace that is being deleted can be deleted
// before their children. Otherwise the deletion of the namespace could block.
func TestTheDeletionOfANamespaceIsNotDenied(t *testing.T) {
	for name, test := range map[string]struct {
		namespace *corev1.Namespace
		refused   bool
	}{
		"active":      {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}, true},
		"terminating": {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}, false},
		"deleted":     {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", DeletionTimestamp: &metav1.Time{}, Finalizers: []string{"a"}}}, false},
		"unknown":     {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}, true},
	} {
		p, err := New(admissiontest.Document(t, Kind, "parents: Deny"))
		if err != nil {
			t.Fatal(err)
		}
		p.SetReader(&admissiontest.Reader{Held: map[string]map[string]string{"root": {"10.0.0.0/24": "Prefix c"}}})
		factory := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
		p.SetExternalKubeInformerFactory(factory)
		if err := factory.Core().V1().Namespaces().Informer().GetStore().Add(test.namespace); err != nil {
			t.Fatal(err)
		}
		warnings, err := admissiontest.Validate(t.Context(), p, admissiontest.Attributes(admission.Delete, admissiontest.Root("root", "10.0.0.0/8"), ""))
		if (err != nil) != test.refused || (len(warnings) == 0) != test.refused {
			t.Errorf("%s: %q, %v", name, warnings, err)
		}
	}
}

func TestItWantsAReader(t *testing.T) {
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
