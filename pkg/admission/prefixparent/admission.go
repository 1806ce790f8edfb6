// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixparent tells at once that a parent can never give what it is asked for.
package prefixparent

import (
	"context"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/configuration"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/request"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
)

const (
	// PluginName is the name of the plugin.
	PluginName = "PrefixParent"
	// Kind is the kind of its configuration.
	Kind = "PrefixParentConfiguration"
)

// Plugin looks at new Prefixes and PrefixAllocations that name a parent which exists, and which is
// too small for them, of the other family, or somewhere else.
type Plugin struct {
	*admission.Handler
	initializer.WithReader
	action configuration.Action
}

var _ admission.ValidationInterface = &Plugin{}

// New returns the plugin with a configuration.
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
		return nil
	}
	errs := initializer.Objections(ctx, p.Reader, r.Namespace, r.Parent, func(parent *ipam.Prefix) field.ErrorList {
		if parent.DeletionTimestamp != nil {
			// The next one of that name may be another one.
			return nil
		}
		return r.Misfit(parent)
	})
	return p.action.Take(ctx, r.Kind, r.Name, errs)
}
