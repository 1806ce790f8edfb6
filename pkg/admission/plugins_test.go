// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/admissiontest"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
)

// TestTheOrderIsThis pins the order of the plugins, so that a change of it is deliberate.
func TestTheOrderIsThis(t *testing.T) {
	want := []string{
		"NamespaceLifecycle",
		"PrefixParent",
		"PrefixOverlap",
		"PrefixInUse",
		"MutatingAdmissionPolicy",
		"MutatingAdmissionWebhook",
		"ValidatingAdmissionPolicy",
		"ValidatingAdmissionWebhook",
		"ResourceQuota",
	}
	options := genericoptions.NewAdmissionOptions()
	upstream := slices.Clone(options.RecommendedPluginOrder)
	Install(options)
	if !slices.Equal(options.RecommendedPluginOrder, want) {
		t.Errorf("the order is\n%q, not\n%q", options.RecommendedPluginOrder, want)
	}
	if errs := options.Validate(); len(errs) > 0 {
		t.Errorf("what is in the order and what is registered differ: %v", errs)
	}
	if options.DefaultOffPlugins.Len() > 0 {
		t.Errorf("off by default are %v", options.DefaultOffPlugins)
	}
	// Without our plugins, the order is the recommended one of the generic server, followed by the quota.
	generic := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return own[name] != nil })
	if !slices.Equal(generic, append(upstream, "ResourceQuota")) {
		t.Errorf("upstream's order is %q", upstream)
	}
}

// TestAllPluginsStartAndTheQuotaCounts creates the chain in the same way as a server in a cluster.
func TestAllPluginsStartAndTheQuotaCounts(t *testing.T) {
	hard := corev1.ResourceList{"count/prefixes.ipam.ironcore.dev": resource.MustParse("1")}
	client := fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}},
		&corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "quota"},
			Spec:       corev1.ResourceQuotaSpec{Hard: hard},
			Status:     corev1.ResourceQuotaStatus{Hard: hard, Used: corev1.ResourceList{"count/prefixes.ipam.ironcore.dev": resource.MustParse("0")}},
		},
	)
	factory := informers.NewSharedInformerFactory(client, 0)
	options := genericoptions.NewAdmissionOptions()
	Install(options)
	// These plugins do not matter here, and call APIs that the fake server does not have.
	options.DisablePlugins = []string{"MutatingAdmissionPolicy", "ValidatingAdmissionPolicy"}
	config := genericapiserver.NewConfig(serializer.NewCodecFactory(runtime.NewScheme()))
	reader := &admissiontest.Reader{Live: []*ipam.Prefix{admissiontest.Root("root", "10.0.0.0/8")}}
	err := options.ApplyTo(config, factory, client, dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()),
		utilfeature.DefaultFeatureGate, compatibility.DefaultBuildEffectiveVersion(), initializer.New(reader, &initializer.Enforced{}))
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())

	create := func(name string) (admissiontest.Warnings, error) {
		obj := admissiontest.Root(name, "10.0.0.0/16")
		a := admission.NewAttributesRecord(obj, nil, ipam.SchemeGroupVersion.WithKind("Prefix"), "ns", name,
			ipam.SchemeGroupVersion.WithResource("prefixes"), "", admission.Create, nil, false, &user.DefaultInfo{Name: "me"})
		return admissiontest.Validate(t.Context(), config.AdmissionControl.(admission.ValidationInterface), a)
	}
	if warnings, err := create("first"); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "overlaps the root root") {
		t.Errorf("the first: %q, %v", warnings, err)
	}
	// The fake server sets no resource versions, so the quota is exceeded only when the informer has seen its
	// usage.
	for began := time.Now(); err == nil && time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
		_, err = create("second")
	}
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "exceeded quota: quota") {
		t.Errorf("the second: %v", err)
	}
}

func TestWithoutCluster(t *testing.T) {
	for _, test := range []struct {
		enable, disable []string
		refused         string
		warnings        int
	}{
		{nil, nil, "", 1},
		{nil, []string{"PrefixOverlap"}, "", 0},
		{nil, []string{"NamespaceLifecycle"}, "", 1},
		{[]string{"PrefixOverlap"}, nil, "", 1},
		{[]string{"ResourceQuota"}, nil, "admission plugin ResourceQuota requires a cluster", 0},
	} {
		options := genericoptions.NewAdmissionOptions()
		Install(options)
		options.EnablePlugins, options.DisablePlugins = test.enable, test.disable
		if err := CheckWithoutCluster(options); test.refused != "" || err != nil {
			if err == nil || !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%+v: %v", test, err)
			}
			continue
		}
		chain, err := NewWithoutCluster(options, initializer.New(
			&admissiontest.Reader{Live: []*ipam.Prefix{admissiontest.Root("root", "10.0.0.0/8")}}, &initializer.Enforced{}))
		if err != nil {
			t.Fatal(err)
		}
		warnings, err := admissiontest.Validate(t.Context(), chain.(admission.ValidationInterface),
			admissiontest.Attributes(admission.Create, admissiontest.Root("new", "10.0.0.0/8"), ""))
		if err != nil || len(warnings) != test.warnings {
			t.Errorf("%+v: %q, %v", test, warnings, err)
		}
	}
}

// TestEnforced checks which rules the storage must enforce for each configuration.
func TestEnforced(t *testing.T) {
	for _, test := range []struct {
		configuration string
		disable       []string
		want          initializer.Enforced
	}{
		{"", nil, initializer.Enforced{}},
		{"roots: Allow", nil, initializer.Enforced{}},
		{"roots: Warn", nil, initializer.Enforced{}},
		{"children: Deny", nil, initializer.Enforced{}},
		{"roots: Deny", nil, initializer.Enforced{DisjointRoots: true}},
		{"roots: Deny", []string{"PrefixParent"}, initializer.Enforced{DisjointRoots: true}},
		{"roots: Deny", []string{"PrefixOverlap"}, initializer.Enforced{}},
	} {
		options := genericoptions.NewAdmissionOptions()
		Install(options)
		options.DisablePlugins = test.disable
		if test.configuration != "" {
			options.ConfigFile = filepath.Join(t.TempDir(), "admission.yaml")
			content := head + "plugins:\n- name: PrefixOverlap\n  configuration:\n    " + strings.ReplaceAll(overlapHead+test.configuration, "\n", "\n    ") + "\n"
			if err := os.WriteFile(options.ConfigFile, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var enforced initializer.Enforced
		if _, err := NewWithoutCluster(options, initializer.New(&admissiontest.Reader{}, &enforced)); err != nil {
			t.Fatal(err)
		}
		if enforced != test.want {
			t.Errorf("%q without %q: %+v", test.configuration, test.disable, enforced)
		}

		// A server in a cluster enforces the same.
		enforced = initializer.Enforced{}
		options.DisablePlugins = append(options.DisablePlugins, "MutatingAdmissionPolicy", "ValidatingAdmissionPolicy")
		client := fake.NewClientset()
		config := genericapiserver.NewConfig(serializer.NewCodecFactory(runtime.NewScheme()))
		err := options.ApplyTo(config, informers.NewSharedInformerFactory(client, 0), client, dynamicfake.NewSimpleDynamicClient(runtime.NewScheme()),
			utilfeature.DefaultFeatureGate, compatibility.DefaultBuildEffectiveVersion(), initializer.New(&admissiontest.Reader{}, &enforced))
		if err != nil {
			t.Fatal(err)
		}
		if enforced != test.want {
			t.Errorf("%q without %q, in a cluster: %+v", test.configuration, test.disable, enforced)
		}
	}
}
