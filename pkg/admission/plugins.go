// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package admission is which admission plugins the server has, and in which order.
package admission

import (
	"fmt"
	"io"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/configuration"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/prefixinuse"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/prefixoverlap"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/prefixparent"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	admissionmetrics "k8s.io/apiserver/pkg/admission/metrics"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	mutatingadmissionpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	validatingadmissionpolicy "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
	mutatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	validatingwebhook "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/apis/apiserver"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	apiserverv1alpha1 "k8s.io/apiserver/pkg/apis/apiserver/v1alpha1"
	genericoptions "k8s.io/apiserver/pkg/server/options"
)

// order is the order of all plugins, all of which are on by default. The generic ones are in the order
// of kube-apiserver, with ours where it puts its own: before the policies and webhooks, which may be
// far away, and before the quota, which counts what nobody else has refused.
var order = []string{
	lifecycle.PluginName, // NamespaceLifecycle
	prefixparent.PluginName,
	prefixoverlap.PluginName,
	prefixinuse.PluginName,
	mutatingadmissionpolicy.PluginName,   // MutatingAdmissionPolicy
	mutatingwebhook.PluginName,           // MutatingAdmissionWebhook
	validatingadmissionpolicy.PluginName, // ValidatingAdmissionPolicy
	validatingwebhook.PluginName,         // ValidatingAdmissionWebhook
	resourcequota.PluginName,             // ResourceQuota
}

// own are the plugins that need no cluster, with what checks their configuration.
var own = map[string]func(*configuration.Document) error{
	prefixparent.PluginName:  check(prefixparent.New),
	prefixoverlap.PluginName: check(prefixoverlap.New),
	prefixinuse.PluginName:   check(prefixinuse.New),
}

func check[P any](construct func(*configuration.Document) (P, error)) func(*configuration.Document) error {
	return func(document *configuration.Document) error {
		_, err := construct(document)
		return err
	}
}

// Install makes our list the one of the options, which have the generic plugins registered already,
// but for the quota.
func Install(options *genericoptions.AdmissionOptions) {
	register(options.Plugins, prefixparent.PluginName, prefixparent.New)
	register(options.Plugins, prefixoverlap.PluginName, prefixoverlap.New)
	register(options.Plugins, prefixinuse.PluginName, prefixinuse.New)
	resourcequota.Register(options.Plugins)
	options.RecommendedPluginOrder = slices.Clone(order)
}

// register registers a plugin of ours, which is made of its configuration.
func register[P admission.Interface](plugins *admission.Plugins, name string, construct func(*configuration.Document) (P, error)) {
	plugins.Register(name, func(r io.Reader) (admission.Interface, error) {
		document, err := configuration.Read(r)
		if err != nil {
			return nil, err
		}
		return construct(document)
	})
}

// CheckConfiguration returns what is wrong in the configuration file of the options.
func CheckConfiguration(options *genericoptions.AdmissionOptions) error {
	if options == nil || options.ConfigFile == "" {
		return nil
	}
	plugins := map[string]func(*configuration.Document) error{}
	for _, name := range order {
		plugins[name] = own[name]
	}
	if err := configuration.CheckFile(options.ConfigFile, plugins); err != nil {
		return fmt.Errorf("admission configuration: %w", err)
	}
	return nil
}

// CheckWithoutCluster returns what is wrong with the options of a server without a cluster, besides
// what is wrong anyway.
func CheckWithoutCluster(options *genericoptions.AdmissionOptions) error {
	for _, name := range options.EnablePlugins {
		if own[name] == nil && slices.Contains(order, name) {
			return fmt.Errorf("admission plugin %s needs a cluster, and there is none", name)
		}
	}
	return nil
}

// NewWithoutCluster returns the plugins that need no cluster, by the options. They are initialized by
// initializer.
func NewWithoutCluster(options *genericoptions.AdmissionOptions, initializer admission.PluginInitializer) (admission.Interface, error) {
	var names []string
	for _, name := range order {
		if own[name] != nil && !slices.Contains(options.DisablePlugins, name) {
			names = append(names, name)
		}
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apiserver.AddToScheme, apiserverv1alpha1.AddToScheme, apiserverv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	configurations, err := admission.ReadAdmissionConfiguration(names, options.ConfigFile, scheme)
	if err != nil {
		return nil, fmt.Errorf("admission configuration: %w", err)
	}
	chain, err := options.Plugins.NewFromPlugins(names, configurations, initializer, options.Decorators)
	if err != nil {
		return nil, err
	}
	return admissionmetrics.WithStepMetrics(chain), nil
}
