// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixparent implements an admission plugin that reports requests that the named parent can never satisfy.
package prefixparent

import (
	"context"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/configuration"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/request"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/klog/v2"
)

const (
	// PluginName is the name of the plugin.
	PluginName = "PrefixParent"
	// Kind is the kind of the plugin configuration.
	Kind = "PrefixParentConfiguration"
)

// Plugin checks new Prefixes and PrefixAllocations that name an existing parent. It objects if the parent is too small,
// has the other address family, does not contain the requested prefix, or is so large that the storage cannot check the
// request in one transaction. It also warns about Prefixes whose selector matches no other Prefix than themselves.
type Plugin struct {
	*admission.Handler
	initializer.WithReader
	action configuration.Action
}

var _ admission.ValidationInterface = &Plugin{}

// New returns the plugin. document is its configuration, or nil for the defaults. New fails if the configuration is not
// valid.
func New(document *configuration.Document) (*Plugin, error) {
	p := &Plugin{Handler: admission.NewHandler(admission.Create), action: configuration.Warn}
	err := document.Decode(Kind, configuration.Field{
		Name:   "action",
		Action: &p.action,
		OneOf:  []configuration.Action{configuration.Warn, configuration.Deny},
	})
	return p, err
}

// Validate implements admission.ValidationInterface.
func (p *Plugin) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	r, ok := request.Of(a)
	if !ok {
		p.warnOfItself(ctx, a)
		return nil
	}
	errs := initializer.Objections(ctx, p.Reader, r.ParentNamespace, r.Parent, func(parent *ipam.Prefix) field.ErrorList {
		if shared, err := p.Reader.Shared(ctx, parent, r.Namespace); err != nil || !shared {
			// It counts as missing.
			return nil
		}
		if parent.DeletionTimestamp != nil {
			// A new parent with the same name may have another prefix.
			return nil
		}
		if errs := r.Misfit(parent); len(errs) > 0 {
			return errs
		}
		return r.TooDeep(parent)
	})
	return p.action.Take(ctx, r.Kind, r.Name, errs)
}

// warnOfItself warns if a new Prefix selects itself and no other Prefix. It never denies this, because a matching
// parent may be created later.
func (p *Plugin) warnOfItself(ctx context.Context, a admission.Attributes) {
	child, ok := a.GetObject().(*ipam.Prefix)
	if !ok || a.GetOperation() != admission.Create || a.GetSubresource() != "" || child.Spec.ParentRef != nil || child.Spec.ParentSelector == nil {
		return
	}
	selector, err := metav1.LabelSelectorAsSelector(child.Spec.ParentSelector)
	if err != nil || !selector.Matches(labels.Set(child.Labels)) {
		return
	}
	if child.NamespaceOfParent() != child.Namespace {
		return
	}
	others, err := p.Reader.AnyMatches(ctx, child.Namespace, selector)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Skipped an admission check: cannot list Prefixes", "namespace", child.Namespace)
		return
	}
	if !others {
		warning.AddWarning(ctx, "", "spec.parentSelector: matches this Prefix itself, which cannot be its own parent, and no other Prefix")
	}
}
