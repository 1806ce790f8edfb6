// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixoverlap implements an admission plugin that reports requests for addresses that are in use.
package prefixoverlap

import (
	"context"
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/configuration"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/request"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/klog/v2"
)

const (
	// PluginName is the name of the plugin.
	PluginName = "PrefixOverlap"
	// Kind is the kind of the plugin configuration.
	Kind = "PrefixOverlapConfiguration"
)

// Plugin checks new roots that overlap another root of the namespace. It also checks new Prefixes and PrefixAllocations
// that request a specific prefix from a named parent, if that prefix overlaps an allocated one.
type Plugin struct {
	*admission.Handler
	initializer.WithReader
	roots, children configuration.Action
}

var (
	_ admission.ValidationInterface = &Plugin{}
	_ initializer.WantsEnforced     = &Plugin{}
)

// New returns the plugin. document is its configuration, or nil for the defaults. New fails if the configuration is not
// valid.
func New(document *configuration.Document) (*Plugin, error) {
	p := &Plugin{Handler: admission.NewHandler(admission.Create), roots: configuration.Warn, children: configuration.Warn}
	all := []configuration.Action{configuration.Allow, configuration.Warn, configuration.Deny}
	err := document.Decode(Kind,
		configuration.Field{Name: "roots", Action: &p.roots, OneOf: all},
		configuration.Field{Name: "children", Action: &p.children, OneOf: all},
	)
	return p, err
}

// SetEnforced implements initializer.WantsEnforced. If overlapping roots are to be denied, the storage enforces it.
func (p *Plugin) SetEnforced(enforced *initializer.Enforced) {
	enforced.DisjointRoots = p.roots == configuration.Deny
}

// Validate implements admission.ValidationInterface.
func (p *Plugin) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if r, ok := request.Of(a); ok {
		return p.validateChild(ctx, r)
	}
	root, ok := a.GetObject().(*ipam.Prefix)
	if !ok || a.GetOperation() != admission.Create || a.GetSubresource() != "" || !root.Spec.IsRoot() {
		return nil
	}
	return p.validateRoot(ctx, root)
}

func (p *Plugin) validateChild(ctx context.Context, r request.Request) error {
	if p.children == configuration.Allow || !r.Prefix.IsValid() {
		return nil
	}
	parent, err := p.Reader.Prefix(ctx, r.ParentNamespace, r.Parent, false)
	if err == nil && parent != nil {
		var shared bool
		if shared, err = p.Reader.Shared(ctx, parent, r.Namespace); !shared {
			parent = nil
		}
	}
	if err == nil && (parent == nil || parent.DeletionTimestamp != nil || len(r.Misfit(parent)) > 0 || !r.Overlaps(parent)) {
		// The prefix is free, or other plugins or the status of the object say why it cannot be allocated.
		return nil
	}
	var held netip.Prefix
	var by string
	if err == nil {
		// The status of the parent may be stale, so look at the claims.
		held, by, err = p.Reader.Holder(ctx, parent, r.Prefix, r.Namespace)
	}
	switch {
	case err != nil:
		klog.FromContext(ctx).Error(err, "Skipped an admission check: cannot read which prefixes are in use", "prefix", klog.KRef(r.ParentNamespace, r.Parent))
		return nil
	case !held.IsValid():
		return nil
	}
	return p.children.Take(ctx, r.Kind, r.Name, r.Held(parent, held, by))
}

func (p *Plugin) validateRoot(ctx context.Context, root *ipam.Prefix) error {
	prefix := request.PrefixOf(root)
	if p.roots == configuration.Allow || !prefix.IsValid() {
		return nil
	}
	others, err := p.Reader.RootsOverlapping(ctx, root.Namespace, prefix)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Skipped an admission check: cannot read the roots", "namespace", root.Namespace)
		return nil
	}
	var errs field.ErrorList
	for i := range others {
		other := &others[i]
		if len(errs) == validation.MaxOverlapsNamed {
			break
		}
		if other.Name == root.Name {
			continue
		}
		errs = append(errs, initializer.Objections(ctx, p.Reader, other.Namespace, other.Name, func(other *ipam.Prefix) field.ErrorList {
			if !other.Spec.IsRoot() || !request.PrefixOf(other).Overlaps(prefix) {
				return nil
			}
			return field.ErrorList{validation.OverlapsRoot(prefix, other)}
		})...)
	}
	return p.roots.Take(ctx, ipam.Kind(ipam.PrefixKind), root.Name, errs)
}
