// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// randomPrefix returns a prefix in canonical notation.
func randomPrefix(r *rand.Rand) netip.Prefix {
	if r.IntN(2) == 0 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))}), 8+r.IntN(25)).Masked()
	}
	var bytes [16]byte
	for i := range bytes {
		bytes[i] = byte(r.IntN(256)) * byte(r.IntN(2))
	}
	bytes[0] = 0x20
	return netip.PrefixFrom(netip.AddrFrom16(bytes), 8+r.IntN(121)).Masked()
}

// notationOf returns a random notation of a prefix that another server of the group accepts.
func notationOf(r *rand.Rand, prefix netip.Prefix) string {
	if prefix.Addr().Is4() && r.IntN(3) == 0 {
		prefix = cidr.Map(prefix)
	}
	addr := prefix.Addr().AsSlice()
	if r.IntN(3) > 0 {
		for bit := prefix.Bits(); bit < len(addr)*8; bit++ {
			addr[bit/8] |= byte(r.IntN(2)) << (7 - bit%8)
		}
	}
	withHostBits, _ := netip.AddrFromSlice(addr)
	text := withHostBits.String()
	switch r.IntN(4) {
	case 0:
		text = withHostBits.StringExpanded()
	case 1:
		text = strings.ToUpper(withHostBits.StringExpanded())
	case 2:
		if !withHostBits.Is4In6() {
			text = strings.ToUpper(text)
		}
	}
	return fmt.Sprintf("%s/%d", text, prefix.Bits())
}

// familyOf returns the family of a notation.
func familyOf(notation string) string { return cidr.FamilyOf(netip.MustParsePrefix(notation)) }

// store writes an object directly to etcd, as another server of the group stores it.
func (s server) store(t *testing.T, namespace string, k harness.Kind, name, spec, status string) *unstructured.Unstructured {
	t.Helper()
	obj := harness.ParseObject(t, fmt.Sprintf("{metadata: {creationTimestamp: '2024-05-01T10:00:00Z', finalizers: [example.org/keep]}, spec: %s, status: %s}", spec, status))
	harness.Merge(obj, map[string]any{"apiVersion": harness.GroupVersion, "kind": k.Name, "metadata": map[string]any{
		"name": name, "namespace": namespace, "uid": fmt.Sprintf("uid-%s-%s", namespace, name)}})
	key := apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/" + k.Resource + "/" + namespace + "/" + name
	if _, err := s.Etcd.Put(t.Context(), key, harness.Encode(t, obj)); err != nil {
		t.Fatal(err)
	}
	return s.Get(t, namespace, k, name)
}

// TestOtherNotationsAreNoChange stores random notations in every field with a prefix, and writes other notations of
// the same range with every kind of request. The stored notation remains, and other fields can be changed.
func TestOtherNotationsAreNoChange(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(22, 16))
	namespace := harness.NewNamespace()
	for i := range 40 {
		prefix := randomPrefix(r)
		stored := notationOf(r, prefix)
		family, bits := familyOf(stored), netip.MustParsePrefix(stored).Bits()
		objects := map[string]*unstructured.Unstructured{
			"spec.prefix of a root": shared.store(t, namespace, harness.PrefixKind, fmt.Sprintf("root-%d", i),
				fmt.Sprintf("{ipFamily: %s, prefix: '%s'}", family, stored),
				fmt.Sprintf("{phase: Allocated, used: ['%s/%d']}", netip.MustParsePrefix(stored).Addr(), netip.MustParsePrefix(stored).Addr().BitLen())),
			"spec.prefix of a child": shared.store(t, namespace, harness.PrefixKind, fmt.Sprintf("child-%d", i),
				fmt.Sprintf("{ipFamily: %s, prefix: '%s', prefixLength: %d, parentRef: {name: parent}, parentSelector: {matchLabels: {a: b}}}", family, stored, bits), "{phase: Allocated}"),
			"spec.prefix of a waiting child": shared.store(t, namespace, harness.PrefixKind, fmt.Sprintf("waiting-%d", i),
				fmt.Sprintf("{ipFamily: %s, prefix: '%s', parentRef: {name: parent}}", family, stored), "{}"),
			"spec.prefix of an allocation": shared.store(t, namespace, harness.AllocationKind, fmt.Sprintf("exact-%d", i),
				fmt.Sprintf("{ipFamily: %s, prefix: '%s', prefixRef: {name: parent}}", family, stored), "{phase: Pending}"),
			"status.prefix of an allocation": shared.store(t, namespace, harness.AllocationKind, fmt.Sprintf("length-%d", i),
				fmt.Sprintf("{ipFamily: %s, prefixLength: %d, prefixRef: {name: parent}}", family, bits), fmt.Sprintf("{phase: Allocated, prefix: '%s'}", stored)),
		}
		for name, obj := range objects {
			for n, contentType := range []string{harness.JSON, harness.MergePatch, harness.ApplyPatch, harness.JSON} {
				other := notationOf(r, prefix)
				if n == 3 {
					// While nothing is to be allocated, the canonical notation is not a change, either.
					other = prefix.String()
				}
				changes, below := fmt.Sprintf("{metadata: {labels: {written: '%d'}}, spec: {prefix: '%s'}}", n, other), []string(nil)
				if strings.HasPrefix(name, "status.prefix") {
					changes, below = fmt.Sprintf("{status: {prefix: '%s', phase: Allocated}}", other), []string{"status"}
				}
				obj.SetResourceVersion("")
				obj.SetManagedFields(nil)
				answer := shared.writeForced(t, obj, contentType, changes, below...)
				if answer.Code != http.StatusOK {
					t.Errorf("%s, stored as %s, written as %s by %s: %s", name, stored, other, contentType, answer.Body)
					continue
				}
				after := shared.Get(t, namespace, harness.Kinds[slices.IndexFunc(harness.Kinds, func(k harness.Kind) bool { return k.Name == obj.GetKind() })], obj.GetName())
				for _, path := range []string{"spec", "status.prefix", "status.used", "metadata.generation"} {
					if was, is := fmt.Sprint(harness.At(obj, path)), fmt.Sprint(harness.At(after, path)); was != is {
						t.Errorf("%s, stored as %s, written as %s by %s: %s was %s, is %s", name, stored, other, contentType, path, was, is)
					}
				}
				if len(below) == 0 && after.GetLabels()["written"] != fmt.Sprint(n) {
					t.Errorf("%s: the label was not written by %s", name, contentType)
				}
			}
			// Another range is a change.
			elsewhere := "{spec: {prefix: 172.16.0.0/12}}"
			below := []string(nil)
			if strings.HasPrefix(name, "status.prefix") {
				elsewhere, below = "{status: {prefix: 172.16.0.0/12, phase: Allocated}}", []string{"status"}
			}
			shared.write(t, obj, harness.MergePatch, elsewhere, below...).Refused(t, http.StatusUnprocessableEntity)
			// Another client's write of the status does not change it.
			condition := "{status: {conditions: [{type: Theirs, status: 'True', reason: R, message: m, lastTransitionTime: '2024-05-01T10:00:00Z'}]}}"
			if !strings.Contains(name, "waiting") {
				shared.write(t, obj, harness.MergePatch, condition, "status").Must(t)
			}
		}
	}
}

// writeForced is like write, but server-side apply forces conflicts.
func (s server) writeForced(t *testing.T, obj *unstructured.Unstructured, contentType, changes string, below ...string) harness.Answer {
	t.Helper()
	if contentType != harness.ApplyPatch {
		return s.write(t, obj, contentType, changes, below...)
	}
	k := harness.Kinds[slices.IndexFunc(harness.Kinds, func(k harness.Kind) bool { return k.Name == obj.GetKind() })]
	whole := harness.ParseObject(t, changes)
	harness.Merge(whole, map[string]any{"apiVersion": harness.GroupVersion, "kind": k.Name, "metadata": map[string]any{"name": obj.GetName()}})
	return s.Do(t, http.MethodPatch, harness.Path(obj.GetNamespace(), k, append([]string{obj.GetName()}, below...)...)+"?force=true&fieldManager=applier", harness.ApplyPatch, harness.Encode(t, whole))
}

// goName matches names in a message that only exist in the Go code: fields in JSON, types, pointers.
var goName = regexp.MustCompile(`[{,]"[A-Z][A-Za-z]*":|[a-z0-9]+\.[A-Z][A-Za-z]*\{|0x[0-9a-f]{6,}`)

// TestTheFirstManifestOfAnAllocatedObject replaces an object with its original manifest, after the server has set
// the other fields.
func TestTheFirstManifestOfAnAllocatedObject(t *testing.T) {
	t.Parallel()
	namespace := harness.NewNamespace()
	root := shared.Create(t, namespace, harness.PrefixKind, "{metadata: {name: root, labels: {a: b}}, spec: {prefix: 10.0.0.0/8}}")
	shared.write(t, root, harness.MergePatch, "{status: {phase: Allocated}}", "status").Must(t)
	for name, spec := range map[string]string{
		"by-ref":           "{prefixLength: 24, parentRef: {name: root}}",
		"by-ref-family":    "{ipFamily: IPv4, prefixLength: 24, parentRef: {name: root}}",
		"by-selector":      "{ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {a: b}}}",
		"exactly":          "{prefix: 10.1.0.0/24, parentRef: {name: root}}",
		"exactly-selected": "{prefix: 10.2.0.0/24, parentSelector: {matchLabels: {a: b}}}",
	} {
		t.Run(name, func(t *testing.T) {
			manifest := fmt.Sprintf("{metadata: {name: %s}, spec: %s}", name, spec)
			child := shared.Create(t, namespace, harness.PrefixKind, manifest)
			prefix := harness.At(child, "spec.prefix")
			if prefix == nil {
				prefix = fmt.Sprintf("10.3.%d.0/24", len(name))
			}
			request := strings.NewReplacer("parent", "prefix").Replace(spec)
			allocation := shared.Create(t, namespace, harness.AllocationKind, fmt.Sprintf(
				"{metadata: {name: %s, ownerReferences: [{apiVersion: %s, kind: Prefix, name: %s, uid: '%s', controller: true}]}, spec: %s}",
				name, harness.GroupVersion, name, child.GetUID(), request))
			firstAllocation := allocation.DeepCopy()
			shared.Do(t, http.MethodPost, harness.Path(namespace, harness.AllocationKind, name, "binding"), harness.JSON,
				fmt.Sprintf("{apiVersion: %s, kind: PrefixAllocationBinding, prefix: %s, prefixRef: {name: root}}", harness.GroupVersion, prefix)).Must(t)
			shared.Do(t, http.MethodPost, harness.Path(namespace, harness.PrefixKind, name, "binding"), harness.JSON,
				fmt.Sprintf("{apiVersion: %s, kind: PrefixBinding, prefix: %s, parentRef: {name: root}}", harness.GroupVersion, prefix)).Must(t)

			for _, first := range []*unstructured.Unstructured{
				{Object: map[string]any{"apiVersion": harness.GroupVersion, "kind": "Prefix", "metadata": map[string]any{"name": name}, "spec": harness.ParseObject(t, spec)}},
				{Object: map[string]any{"apiVersion": harness.GroupVersion, "kind": "PrefixAllocation", "metadata": map[string]any{"name": name, "ownerReferences": harness.At(firstAllocation, "metadata.ownerReferences")}, "spec": harness.ParseObject(t, request)}},
			} {
				k := harness.PrefixKind
				if first.GetKind() != k.Name {
					k = harness.AllocationKind
				}
				before := shared.Get(t, namespace, k, name)
				p := harness.Path(namespace, k, name)
				shared.Do(t, http.MethodPut, p, harness.JSON, harness.Encode(t, first.Object)).Must(t)
				// Server-side apply of all fields, and then of the manifest, removes the fields that the manifest
				// does not have.
				whole := map[string]any{"apiVersion": harness.GroupVersion, "kind": k.Name, "metadata": map[string]any{"name": name}, "spec": harness.At(before, "spec")}
				shared.Do(t, http.MethodPatch, p+"?fieldManager=gitops&force=true", harness.ApplyPatch, harness.Encode(t, whole)).Must(t)
				shared.Do(t, http.MethodPatch, p+"?fieldManager=gitops&force=true", harness.ApplyPatch, harness.Encode(t, first.Object)).Must(t)
				for _, unset := range map[harness.Kind][]string{harness.PrefixKind: {"prefix", "parentRef", "ipFamily"}, harness.AllocationKind: {"prefixRef", "ipFamily"}}[k] {
					shared.Do(t, http.MethodPatch, p, harness.MergePatch, fmt.Sprintf("{spec: {%s: null}}", unset)).Must(t)
				}
				after := shared.Get(t, namespace, k, name)
				for _, field := range []string{"spec", "status", "metadata.generation"} {
					if was, is := fmt.Sprint(harness.At(before, field)), fmt.Sprint(harness.At(after, field)); was != is {
						t.Errorf("%s of the %s was %s, is %s", field, k.Name, was, is)
					}
				}
				// Other values are still rejected.
				reference := map[harness.Kind]string{harness.PrefixKind: "{parentRef: {name: other}}", harness.AllocationKind: "{prefixRef: {name: other}}"}[k]
				for _, changed := range []string{"{prefixLength: 25}", "{prefix: 10.200.0.0/24}", reference, "{ipFamily: IPv6}"} {
					status := shared.Do(t, http.MethodPatch, p, harness.MergePatch, fmt.Sprintf("{spec: %s}", changed)).Refused(t, http.StatusUnprocessableEntity)
					if goName.MatchString(status.Message) {
						t.Errorf("%s shows the names of Go: %s", changed, status.Message)
					}
				}
			}
		})
	}
}

// TestTerminatingObjectsSaySo updates objects that are being deleted.
func TestTerminatingObjectsSaySo(t *testing.T) {
	t.Parallel()
	namespace := harness.NewNamespace()
	for _, tt := range []struct {
		kind           harness.Kind
		spec, addition string
	}{
		{harness.PrefixKind, "{ipFamily: IPv4, prefixLength: 24, parentSelector: {matchLabels: {a: b}}}", "{parentRef: {name: parent}}"},
		{harness.AllocationKind, "{ipFamily: IPv4, prefixLength: 24, prefixSelector: {matchLabels: {a: b}}}", "{prefixRef: {name: parent}}"},
	} {
		t.Run(tt.kind.Name, func(t *testing.T) {
			shared.Create(t, namespace, tt.kind, fmt.Sprintf("{metadata: {name: ending, finalizers: [example.org/keep]}, spec: %s}", tt.spec))
			shared.Do(t, http.MethodDelete, harness.Path(namespace, tt.kind, "ending"), harness.JSON, "")
			obj := shared.Get(t, namespace, tt.kind, "ending")
			for _, contentType := range []string{harness.JSON, harness.MergePatch, harness.ApplyPatch} {
				status := shared.writeForced(t, obj, contentType, fmt.Sprintf("{spec: %s}", tt.addition)).Refused(t, http.StatusUnprocessableEntity)
				if !strings.Contains(status.Message, "the "+tt.kind.Name+" is being deleted (since ") || !slices.Equal(harness.Causes(status), []string{"spec"}) {
					t.Errorf("%s: the spec is refused with %s", contentType, status.Message)
				}
				answer := shared.writeForced(t, obj, contentType, fmt.Sprintf("{spec: %s}", tt.spec))
				answer.Must(t)
				if warning := answer.Header.Get("Warning"); !strings.Contains(warning, tt.kind.Name+" ending is being deleted (since ") {
					t.Errorf("%s: the warning is %q", contentType, warning)
				}
				obj = shared.Get(t, namespace, tt.kind, "ending")
			}
			// Updates that complete the deletion or report on it get no warning.
			for _, quiet := range []harness.Answer{
				shared.write(t, obj, harness.MergePatch, "{status: {conditions: []}}", "status"),
				shared.write(t, obj, harness.MergePatch, "{metadata: {finalizers: null}}"),
			} {
				quiet.Must(t)
				if warning := quiet.Header.Get("Warning"); warning != "" {
					t.Errorf("warned of %q", warning)
				}
			}
		})
	}
}

// TestTemplatesOfNetworking creates Prefixes like the controllers of IronCore's networking group, from templates
// with any notation.
func TestTemplatesOfNetworking(t *testing.T) {
	t.Parallel()
	namespace := harness.NewNamespace()
	r := rand.New(rand.NewPCG(26, 16))
	for i := range 100 {
		prefix := randomPrefix(r)
		notation := notationOf(r, prefix)
		length := netip.MustParsePrefix(notation).Bits()
		manifest := func(name, apiVersion string) string {
			return fmt.Sprintf("{metadata: {name: %s-%d, ownerReferences: [{apiVersion: %s, kind: NetworkInterface, name: nic, uid: nic-uid, controller: true}]}, "+
				"spec: {ipFamily: %s, prefix: '%s', prefixLength: %d, parentRef: {name: parent}}}", name, i, apiVersion, familyOf(notation), notation, length)
		}
		answer := shared.Do(t, http.MethodPost, harness.Path(namespace, harness.PrefixKind), harness.JSON, manifest("nic", "networking.ironcore.dev/v1alpha1"))
		got := answer.Must(t)
		want := map[string]any{"ipFamily": cidr.FamilyOf(prefix), "prefix": prefix.String(), "prefixLength": int64(prefix.Bits()), "parentRef": map[string]any{"name": "parent"}}
		if fmt.Sprint(harness.At(got, "spec")) != fmt.Sprint(want) {
			t.Errorf("%s was stored as %v, not %v", notation, harness.At(got, "spec"), want)
		}
		canonical := notation == prefix.String()
		if warning := answer.Header.Get("Warning"); strings.Contains(warning, "is stored in canonical form, "+prefix.String()) == canonical {
			t.Errorf("%s: the warning is %q", notation, warning)
		}
		if !canonical {
			shared.Do(t, http.MethodPost, harness.Path(namespace, harness.PrefixKind), harness.JSON, manifest("other", "example.org/v1")).Refused(t, http.StatusUnprocessableEntity)
		}
	}
}
