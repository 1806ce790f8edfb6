// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// refused checks that an error has the given code and contains the words.
func refused(t *testing.T, err error, code int32, words ...string) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != code {
		t.Errorf("answered %v, not with a %d", err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q lacks %q", err, word)
		}
	}
}

// TestByDefaultEverythingIsAcceptedWithAWarning creates requests that can never be satisfied, in both families.
func TestByDefaultEverythingIsAcceptedWithAWarning(t *testing.T) {
	for _, family := range []struct {
		root, free, used, inside, outside string
		length, fits                      int32
	}{
		{"10.0.0.0/16", "10.0.1.0/24", "10.0.2.0/24", "10.0.2.128/25", "10.1.0.0/24", 16, 24},
		{"2001:db8::/32", "2001:db8:1::/48", "2001:db8:2::/48", "2001:db8:2:1::/64", "2001:db9::/48", 32, 48},
	} {
		t.Run(family.root, func(t *testing.T) {
			c := newClient(t, shared)
			c.Create(harness.Root("root", family.root))
			c.allocated("root")
			c.Create(harness.Child("used", "root", harness.Exactly(family.used)))
			c.allocated("used")
			c.warnedOf()

			c.Create(harness.Child("as-large", "root", harness.Length(family.length)))
			c.warnedOf(fmt.Sprintf("spec.prefixLength: root (%s) is too small to hold a /%d", family.root, family.length))
			c.Create(harness.Child("itself", "root", harness.Exactly(family.root)))
			c.warnedOf(fmt.Sprintf("spec.prefix: root (%s) is too small to hold %s", family.root, family.root))
			c.Create(harness.Child("outside", "root", harness.Exactly(family.outside)))
			c.warnedOf(fmt.Sprintf("spec.prefix: root (%s) does not contain %s", family.root, family.outside))
			c.Create(harness.Child("over", "root", harness.Exactly(family.inside)))
			c.warnedOf(fmt.Sprintf("spec.prefix: root (%s) has %s in use by Prefix used, which overlaps %s", family.root, family.used, family.inside))
			if _, err := c.Allocations.Create(t.Context(), harness.Allocation("outside", "root", family.outside), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			c.warnedOf(fmt.Sprintf("spec.prefix: root (%s) does not contain %s", family.root, family.outside))

			// A request that can be satisfied gets no warning, nor does one whose parent does not exist yet.
			c.Create(harness.Child("fits", "root", harness.Length(family.fits)))
			c.Create(harness.Child("free", "root", harness.Exactly(family.free)))
			c.Create(harness.Child("early", "nobody", harness.Length(family.fits)))
			c.warnedOf()

			c.Create(harness.Root("again", family.inside))
			c.warnedOf(fmt.Sprintf("spec.prefix: %s overlaps the root root (%s)", family.inside, family.root))

			// An update gets no warning.
			if _, err := c.Prefixes.Patch(t.Context(), "as-large", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			c.warnedOf()
		})
	}
}

func TestWrongFamily(t *testing.T) {
	c := newClient(t, shared)
	c.Create(harness.Root("root", "10.0.0.0/8"))
	c.allocated("root")
	six := harness.Child("six", "root", harness.Length(64))
	six.Spec.IPFamily = v1alpha1.IPv6
	c.Create(six)
	c.warnedOf("spec.ipFamily: root (10.0.0.0/8) is IPv4, not IPv6")
	// An unset family is derived from the parent.
	created, err := c.Prefixes.Create(t.Context(), harness.Child("open", "root", harness.Length(24)), metav1.CreateOptions{})
	if err != nil || created.Spec.IPFamily != v1alpha1.IPv4 {
		t.Errorf("created %+v, %v", created, err)
	}
	c.warnedOf()
}

// TestDryRunAndApplyAreWarnedToo creates objects in other ways.
func TestDryRunAndApplyAreWarnedToo(t *testing.T) {
	c := newClient(t, shared)
	c.Create(harness.Root("root", "10.0.0.0/24"))
	c.allocated("root")
	const warning = "spec.prefixLength: root (10.0.0.0/24) is too small to hold a /9"
	if _, err := c.Prefixes.Create(t.Context(), harness.Child("dry", "root", harness.Length(9)), dryRun); err != nil {
		t.Fatal(err)
	}
	c.warnedOf(warning)
	apply := func() {
		t.Helper()
		_, err := c.Prefixes.Patch(t.Context(), "applied", types.ApplyPatchType, []byte(`{"apiVersion":"ipam.ironcore.dev/v1alpha1","kind":"Prefix",`+
			`"metadata":{"name":"applied"},"spec":{"prefixLength":9,"parentRef":{"name":"root"}}}`), metav1.PatchOptions{FieldManager: "me"})
		if err != nil {
			t.Fatal(err)
		}
	}
	apply()
	c.warnedOf(warning)
	apply()
	c.warnedOf()
}

// documented returns the configuration file in the documentation.
func documented(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/operating/admission.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "```yaml\n")
	configuration, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("there is no example in docs/operating/admission.md")
	}
	return configuration
}

// TestTheDocumentedConfiguration uses the documented configuration: requests that can never be satisfied and
// overlapping roots are denied. Children can request a prefix that is in use.
func TestTheDocumentedConfiguration(t *testing.T) {
	c := newClient(t, configured(t, documented(t)))
	c.Create(harness.Root("root", "10.0.0.0/16"))
	c.allocated("root")
	c.Create(harness.Child("used", "root", harness.Exactly("10.0.2.0/24")))
	c.allocated("used")

	for _, options := range []metav1.CreateOptions{{}, dryRun} {
		_, err := c.Prefixes.Create(t.Context(), harness.Child("as-large", "root", harness.Length(16)), options)
		refused(t, err, http.StatusUnprocessableEntity, `Prefix.ipam.ironcore.dev "as-large"`, "spec.prefixLength", "root (10.0.0.0/16) is too small to hold a /16")
		_, err = c.Prefixes.Create(t.Context(), harness.Child("outside", "root", harness.Exactly("10.1.0.0/24")), options)
		refused(t, err, http.StatusUnprocessableEntity, "spec.prefix:", "does not contain 10.1.0.0/24")
		_, err = c.Prefixes.Create(t.Context(), harness.Child("six", "root", harness.Exactly("2001:db8::/48")), options)
		refused(t, err, http.StatusUnprocessableEntity, "spec.prefix:", "is IPv4, not IPv6")
		_, err = c.Allocations.Create(t.Context(), harness.Allocation("outside", "root", "10.1.0.0/24"), options)
		refused(t, err, http.StatusUnprocessableEntity, `PrefixAllocation.ipam.ironcore.dev "outside"`, "spec.prefix:")
		_, err = c.Prefixes.Create(t.Context(), harness.Root("again", "10.0.0.0/8"), options)
		refused(t, err, http.StatusUnprocessableEntity, "spec.prefix:", "10.0.0.0/8 overlaps the root root (10.0.0.0/16)")
	}
	list, err := c.Prefixes.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 {
		t.Errorf("there are %d Prefixes, %v", len(list.Items), err)
	}
	c.Create(harness.Child("over", "root", harness.Exactly("10.0.2.0/24")))
	c.Create(harness.Root("other", "10.1.0.0/16"))
	c.warnedOf()

	// The roots of other namespaces do not matter.
	newClient(t, shared).Create(harness.Root("again", "10.0.0.0/8"))
}

// TestOverlappingRootsAreDeniedInParallel creates equal roots concurrently, with all kinds of requests.
func TestOverlappingRootsAreDeniedInParallel(t *testing.T) {
	instance := configured(t, documented(t))
	apply := func(c *client, name string) error {
		_, err := c.Prefixes.Patch(t.Context(), name, types.ApplyPatchType, fmt.Appendf(nil, `{"apiVersion":"ipam.ironcore.dev/v1alpha1","kind":"Prefix",`+
			`"metadata":{"name":%q},"spec":{"prefix":"10.0.0.0/16"}}`, name), metav1.PatchOptions{FieldManager: "me"})
		return err
	}
	create := func(c *client, name string) error {
		_, err := c.Prefixes.Create(t.Context(), harness.Root(name, "10.0.0.0/16"), metav1.CreateOptions{})
		return err
	}
	generate := func(c *client, name string) error {
		generated := harness.Root("", "10.0.0.0/16")
		generated.GenerateName = name
		_, err := c.Prefixes.Create(t.Context(), generated, metav1.CreateOptions{})
		return err
	}
	for range 10 {
		c := newClient(t, instance)
		errs := make([]error, 51)
		var group sync.WaitGroup
		for i := range errs {
			group.Go(func() {
				errs[i] = []func(*client, string) error{apply, create, generate}[i%3](c, fmt.Sprintf("root-%d", i))
			})
		}
		group.Wait()
		list, err := c.Prefixes.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 1 {
			t.Fatalf("there are %d roots", len(list.Items))
		}
		winners := 0
		for _, err := range errs {
			if err == nil {
				winners++
				continue
			}
			refused(t, err, http.StatusUnprocessableEntity, "spec.prefix:", fmt.Sprintf("10.0.0.0/16 overlaps the root %s (10.0.0.0/16)", list.Items[0].Name))
		}
		if winners != 1 {
			t.Errorf("%d were told that they are created", winners)
		}
		c.warnedOf()
	}
}

// TestDenyLetsTheControllersExplain creates a child before its parent, which is too small. Then only the
// controllers can report that, in the conditions of the PrefixAllocation.
func TestDenyLetsTheControllersExplain(t *testing.T) {
	c := newClient(t, configured(t, documented(t)))
	early := harness.Child("early", "root", harness.Length(9))
	early.Spec.IPFamily = v1alpha1.IPv4
	c.Create(early)
	c.Create(harness.Root("root", "10.0.0.0/24"))
	c.Eventually("early waits", func() error {
		condition := meta.FindStatusCondition(c.Get("early").Status.Conditions, v1alpha1.ConditionAllocated)
		if condition == nil || condition.Reason != v1alpha1.ReasonNoSuitableParent {
			return fmt.Errorf("it says %+v", condition)
		}
		return nil
	})

	// The order of the allocation and the parent does not matter.
	late := c.Get("early")
	c.allocated("root")
	owned := harness.Allocation("owned", "root", "10.0.0.0/9")
	owned.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(late, schema.GroupVersion(v1alpha1.GroupVersion).WithKind("Prefix"))}
	if _, err := c.Allocations.Create(t.Context(), owned, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
}

// TestAnAllocationInUse tries to delete an allocation in use with all kinds of requests.
func TestAnAllocationInUse(t *testing.T) {
	c := newClient(t, shared)
	c.Create(harness.Root("root", "10.0.0.0/8"))
	c.allocated("root")
	c.Create(harness.Child("child", "root", harness.Length(24)))
	prefix := c.allocated("child").Spec.Prefix
	name := c.allocationOf().Name
	dry := metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	for _, options := range []metav1.DeleteOptions{{}, dry} {
		refused(t, c.Allocations.Delete(t.Context(), name, options), http.StatusConflict, name, prefix+" is in use by Prefix child: delete that Prefix instead")
		refused(t, c.Allocations.DeleteCollection(t.Context(), options, metav1.ListOptions{}), http.StatusConflict, "Prefix child")
	}
	// With a finalizer the object would be marked as being deleted forever.
	if _, err := c.Allocations.Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":["example.com/keep"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	refused(t, c.Allocations.Delete(t.Context(), name, metav1.DeleteOptions{}), http.StatusConflict, "Prefix child")
	if a := c.allocationOf(); a.DeletionTimestamp != nil {
		t.Error("the deletion has begun")
	}
	if _, err := c.Allocations.Patch(t.Context(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}

	// The Prefix can be deleted, and then the allocation is deleted.
	if err := c.Prefixes.Delete(t.Context(), "child", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.Eventually("the allocation is gone", func() error {
		if left := c.ListAllocations(); len(left) > 0 {
			return fmt.Errorf("%s is still there", left[0].Name)
		}
		return nil
	})
}

// TestPluginsCanBeDisabled uses the flag of all API servers.
func TestPluginsCanBeDisabled(t *testing.T) {
	c := newClient(t, start(t, func(o *apiserver.Options) {
		o.Recommended.Admission.DisablePlugins = []string{"PrefixParent", "PrefixInUse"}
	}))
	c.Create(harness.Root("root", "10.0.0.0/24"))
	c.allocated("root")
	c.Create(harness.Child("too-large", "root", harness.Length(9)))
	c.warnedOf()
	c.Create(harness.Root("again", "10.0.0.0/8"))
	c.warnedOf("spec.prefix: 10.0.0.0/8 overlaps the root root (10.0.0.0/24)")
}

// TestWithoutWatchCache runs without the watch cache, so the plugins read from etcd.
func TestWithoutWatchCache(t *testing.T) {
	c := newClient(t, start(t, func(o *apiserver.Options) { o.Recommended.Etcd.EnableWatchCache = false }))
	c.Create(harness.Root("root", "10.0.0.0/24"))
	c.Create(harness.Child("too-large", "root", harness.Length(9)))
	c.Create(harness.Root("again", "10.0.0.0/8"))
	c.warnedOf("spec.prefixLength: root (10.0.0.0/24) is too small to hold a /9", "spec.prefix: 10.0.0.0/8 overlaps the root root (10.0.0.0/24)")
}

// TestOnlyTheServerSelectsByTheIndex shows that clients cannot use the internal index in a field selector.
func TestOnlyTheServerSelectsByTheIndex(t *testing.T) {
	c := newClient(t, shared)
	_, err := c.Prefixes.List(t.Context(), metav1.ListOptions{FieldSelector: "rootOf=namespace"})
	refused(t, err, http.StatusBadRequest, "field label not supported")
}

// TestABadConfigurationEndsTheStart checks that the error has the mistake and its position.
func TestABadConfigurationEndsTheStart(t *testing.T) {
	for name, test := range map[string]struct {
		old, new string
		words    []string
	}{
		"unknown action": {"action: Deny", "action: Refuse", []string{"line 8: ", `action is "Refuse"`}},
		"unknown field":  {"children: Allow", "child: Allow", []string{"line 14: ", `unknown field "child"`}},
		"wrong kind":     {"kind: PrefixOverlapConfiguration", "kind: PrefixParentConfiguration", []string{"line 12: ", "PrefixOverlapConfiguration"}},
		"bad YAML":       {"- name: PrefixOverlap", "- name: 'PrefixOverlap", []string{"line "}},
		"no such plugin": {"- name: PrefixOverlap", "- name: PrefixOverlaps", []string{"line 9: ", `unknown plugin "PrefixOverlaps"`}},
	} {
		t.Run(name, func(t *testing.T) {
			configuration := documented(t)
			if strings.Count(configuration, test.old) != 1 {
				t.Fatalf("the example has not got %q once", test.old)
			}
			file := writeFile(t, strings.Replace(configuration, test.old, test.new, 1))
			server, err := harness.StartServer(t.TempDir(), func(o *standalone.Options) { o.AdmissionConfigFile = file })
			if err == nil {
				server.Close()
				t.Fatal("it started")
			}
			for _, word := range append(test.words, file) {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q lacks %q", err, word)
				}
			}
		})
	}
}
