// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package admission defines the admission plugins of the API server and their order.
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

// order is the order of all plugins. All of them are enabled by default. The generic plugins are in the order of
// kube-apiserver. The plugins of this API group are where kube-apiserver has its own: before policies and webhooks,
// which may be slow remote calls, and before the quota, which must only count requests that all other plugins accepted.
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

// own maps the plugins that need no cluster to the functions that check their configurations.
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

// Install registers the plugins of this API group and ResourceQuota, and sets the order of all plugins. The options
// have the other generic plugins already.
func Install(options *genericoptions.AdmissionOptions) {
	register(options.Plugins, prefixparent.PluginName, prefixparent.New)
	register(options.Plugins, prefixoverlap.PluginName, prefixoverlap.New)
	register(options.Plugins, prefixinuse.PluginName, prefixinuse.New)
	resourcequota.Register(options.Plugins)
	options.RecommendedPluginOrder = slices.Clone(order)
}

// register registers a plugin of this API group. construct creates it from its configuration.
func register[P admission.Interface](plugins *admission.Plugins, name string, construct func(*configuration.Document) (P, error)) {
	plugins.Register(name, func(r io.Reader) (admission.Interface, error) {
		document, err := configuration.Read(r)
		if err != nil {
			return nil, err
		}
		return construct(document)
	})
}

// CheckConfiguration returns the errors in the admission configuration file of the options, or nil if there is no file.
// See configuration.CheckFile.
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

// CheckWithoutCluster returns an error if the options enable a plugin that needs a cluster. It is for servers without
// one.
func CheckWithoutCluster(options *genericoptions.AdmissionOptions) error {
	for _, name := range options.EnablePlugins {
		if own[name] == nil && slices.Contains(order, name) {
			return fmt.Errorf("admission plugin %s requires a cluster, and this server has none", name)
		}
	}
	return nil
}

// NewWithoutCluster returns the chain of the enabled plugins that need no cluster, configured by the options. It passes
// initializer to each plugin. It fails if the configuration cannot be read or a plugin cannot be created.
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
