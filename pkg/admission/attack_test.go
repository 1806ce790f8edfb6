// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/admissiontest"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/configuration"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/prefixinuse"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/prefixoverlap"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/prefixparent"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
)

// attacked returns the plugins in every configuration.
func attacked(t *testing.T) map[string]admission.ValidationInterface {
	t.Helper()
	plugins := map[string]admission.ValidationInterface{}
	add := func(name string, plugin admission.ValidationInterface, err error) {
		if err != nil {
			t.Fatal(err)
		}
		plugins[name] = plugin
	}
	actions := []configuration.Action{configuration.Allow, configuration.Warn, configuration.Deny}
	for _, action := range actions {
		p, err := prefixinuse.New(admissiontest.Document(t, prefixinuse.Kind, fmt.Sprintf("parents: %s", action)))
		add(fmt.Sprintf("PrefixInUse %s", action), p, err)
		for _, children := range actions {
			p, err := prefixoverlap.New(admissiontest.Document(t, prefixoverlap.Kind, fmt.Sprintf("roots: %s\nchildren: %s", action, children)))
			add(fmt.Sprintf("PrefixOverlap %s %s", action, children), p, err)
		}
		if action != configuration.Allow {
			p, err := prefixparent.New(admissiontest.Document(t, prefixparent.Kind, fmt.Sprintf("action: %s", action)))
			add(fmt.Sprintf("PrefixParent %s", action), p, err)
		}
	}
	return plugins
}

// TestEveryVerbOfEveryPlugin sends every kind of object with every verb and subresource to each plugin in each
// configuration. No plugin panics, and each handles exactly the verbs that it is for. With Deny, an invalid request
// is always denied, as a dry run, too.
func TestEveryVerbOfEveryPlugin(t *testing.T) {
	overlapping := admissiontest.Root("new", "10.0.0.0/16")
	inUse := admissiontest.Child("root", "10.0.0.0/24")
	misfit := admissiontest.Child("root", "/8")
	parent := admissiontest.Root("root", "10.0.0.0/8", "10.0.0.0/24")
	holder := admissiontest.Child("root", "10.0.0.0/24")
	holder.Name, holder.UID, holder.Status.Phase = "holder", "holder", ipam.PrefixPhaseAllocated
	held := admissiontest.Of(holder, admissiontest.Allocation("root", "10.0.0.0/24"))
	held.Status = ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseAllocated, Prefix: "10.0.0.0/24"}
	// wrong is an object and, by verb, the plugins that must deny it.
	type wrong struct {
		plugin    string
		operation admission.Operation
		object    string
	}
	denied := map[wrong]bool{
		{"PrefixOverlap Deny", admission.Create, "overlapping root"}:     true,
		{"Deny", admission.Create, "child in use"}:                       true,
		{"Deny", admission.Create, "allocation in use"}:                  true,
		{"PrefixParent Deny", admission.Create, "child that never fits"}: true,
		{"PrefixInUse Deny", admission.Delete, "parent"}:                 true,
		{"PrefixInUse ", admission.Delete, "held allocation"}:            true,
	}
	objects := map[string]runtime.Object{
		"overlapping root":      overlapping,
		"child in use":          inUse,
		"allocation in use":     admissiontest.Allocation("root", "10.0.0.0/24"),
		"child that never fits": misfit,
		"parent":                parent,
		"held allocation":       held,
		"empty Prefix":          &ipam.Prefix{},
		"empty allocation":      &ipam.PrefixAllocation{},
		"nonsense":              &ipam.Prefix{Spec: ipam.PrefixSpec{Prefix: "nonsense", PrefixLength: -7, ParentRef: &ipam.LocalObjectReference{}}},
		"nonsense selector": &ipam.Prefix{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"": ""}}, Spec: ipam.PrefixSpec{
			ParentSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: " ", Operator: "Nonsense"}}}}},
		"nonsense allocation": &ipam.PrefixAllocation{Spec: ipam.PrefixAllocationSpec{Prefix: "::ffff:10.0.0.0/300", PrefixRef: &ipam.LocalObjectReference{}},
			Status: ipam.PrefixAllocationStatus{Phase: ipam.PrefixAllocationPhaseAllocated, Prefix: "x"}},
		"Prefix binding":     &ipam.PrefixBinding{},
		"allocation binding": &ipam.PrefixAllocationBinding{},
		"something else":     &metav1.Status{},
		"nothing":            nil,
	}
	reader := func(err error) *admissiontest.Reader {
		return &admissiontest.Reader{Live: []*ipam.Prefix{parent, holder}, Held: map[string]map[string]string{"root": {"10.0.0.0/24": "Prefix holder"}}, Err: err}
	}
	seen := map[wrong]bool{}
	for pluginName, plugin := range attacked(t) {
		for readerName, reader := range map[string]initializer.Reader{"ready": reader(nil), "failing": reader(errors.New("no")), "not ready": &initializer.Deferred{}} {
			plugin.(initializer.WantsReader).SetReader(reader)
			for name, object := range objects {
				for _, operation := range []admission.Operation{admission.Create, admission.Update, admission.Delete, admission.Connect} {
					for _, subresource := range []string{"", "status", "binding", "nonsense"} {
						for _, dryRun := range []bool{false, true} {
							var obj, old runtime.Object
							switch operation {
							case admission.Create:
								obj = object
							case admission.Delete:
								old = object
							default:
								obj, old = object, object
							}
							a := admission.NewAttributesRecord(obj, old, ipam.SchemeGroupVersion.WithKind("Prefix"), "ns", "name",
								ipam.SchemeGroupVersion.WithResource("prefixes"), subresource, operation, nil, dryRun, &user.DefaultInfo{Name: "me"})
							warnings, err := admissiontest.Validate(t.Context(), plugin, a)

							want := false
							for w := range denied {
								if subresource == "" && readerName == "ready" && w.operation == operation && w.object == name && pluginDenies(pluginName, w.plugin) {
									want, seen[w] = true, true
								}
							}
							if (err != nil) != want {
								t.Errorf("%s, %s: %s of %s %q: %v", pluginName, readerName, operation, name, subresource, err)
							}
							answered := err != nil || len(warnings) > 0
							if answered && (subresource != "" || operation != admission.Create && operation != admission.Delete) {
								t.Errorf("%s, %s: %s of %s %q: %q, %v", pluginName, readerName, operation, name, subresource, warnings, err)
							}
						}
					}
				}
			}
		}
	}
	for w := range denied {
		if !seen[w] {
			t.Errorf("nobody denies %+v", w)
		}
	}
}

// pluginDenies reports whether a plugin with this configuration denies the request. For PrefixOverlap, which has
// two actions, the second one is that for children.
func pluginDenies(name, wanted string) bool {
	words := strings.Fields(name)
	switch {
	case wanted == "Deny":
		return words[0] == prefixoverlap.PluginName && words[2] == "Deny"
	case wanted == "PrefixInUse ":
		return words[0] == prefixinuse.PluginName
	}
	return strings.HasPrefix(name, wanted)
}
