// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixinuse implements an admission plugin that checks whether an object to delete is in use.
//
// It denies the deletion of a PrefixAllocation whose prefix is that of a child Prefix. The storage prevents its
// removal, too. The plugin also denies dry runs, and deletions that would first wait for finalizers.
//
// By default it accepts the deletion of a Prefix with children, with a warning: the Prefix remains until its children
// are gone, and the deletion cannot be undone.
package prefixinuse

import (
	"context"
	"errors"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/configuration"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/request"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	genericinitializer "k8s.io/apiserver/pkg/admission/initializer"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"
)

const (
	// PluginName is the name of the plugin.
	PluginName = "PrefixInUse"
	// Kind is the kind of the plugin configuration.
	Kind = "PrefixInUseConfiguration"
)

// Plugin checks the deletion of PrefixAllocations and Prefixes.
type Plugin struct {
	*admission.Handler
	initializer.WithReader
	parents configuration.Action
	// namespaces is nil without a cluster.
	namespaces corelisters.NamespaceLister
}

var (
	_ admission.ValidationInterface                       = &Plugin{}
	_ genericinitializer.WantsExternalKubeInformerFactory = &Plugin{}
)

// New returns the plugin. document is its configuration, or nil for the defaults. New fails if the configuration is not
// valid.
func New(document *configuration.Document) (*Plugin, error) {
	p := &Plugin{Handler: admission.NewHandler(admission.Delete), parents: configuration.Warn}
	err := document.Decode(Kind, configuration.Field{
		Name:   "parents",
		Action: &p.parents,
		OneOf:  []configuration.Action{configuration.Allow, configuration.Warn, configuration.Deny},
	})
	return p, err
}

// SetExternalKubeInformerFactory implements WantsExternalKubeInformerFactory.
func (p *Plugin) SetExternalKubeInformerFactory(factory informers.SharedInformerFactory) {
	p.namespaces = factory.Core().V1().Namespaces().Lister()
}

// Validate implements admission.ValidationInterface.
func (p *Plugin) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetOperation() != admission.Delete || a.GetSubresource() != "" {
		return nil
	}
	switch obj := a.GetOldObject().(type) {
	case *ipam.PrefixAllocation:
		return p.validateAllocation(ctx, obj)
	case *ipam.Prefix:
		return p.validateParent(ctx, obj)
	}
	return nil
}

func (p *Plugin) validateAllocation(ctx context.Context, allocation *ipam.PrefixAllocation) error {
	owner := request.RequesterOf(allocation)
	if owner == nil || allocation.Status.Phase != ipam.PrefixAllocationPhaseAllocated {
		return nil
	}
	errs := initializer.Objections(ctx, p.Reader, allocation.Namespace, owner.Name, func(child *ipam.Prefix) field.ErrorList {
		held := request.PrefixOf(child)
		if child.UID != owner.UID || child.Status.Phase != ipam.PrefixPhaseAllocated || !held.IsValid() || held != request.Parse(allocation.Status.Prefix) {
			return nil
		}
		return field.ErrorList{field.Forbidden(field.NewPath("status", "prefix"), fmt.Sprintf("%s is in use by Prefix %s: delete that Prefix instead", held, child.Name))}
	})
	if len(errs) == 0 || p.orphaned(ctx, allocation) {
		return nil
	}
	return apierrors.NewConflict(ipam.Resource("prefixallocations"), allocation.Name, errors.New(errs[0].Detail))
}

// validateParent warns about or denies the deletion of a Prefix with children. It never denies a repeated deletion, nor
// a deletion in a namespace that is being deleted: there the children are deleted, too.
func (p *Plugin) validateParent(ctx context.Context, prefix *ipam.Prefix) error {
	if p.parents == configuration.Allow {
		return nil
	}
	children, err := p.Reader.Children(ctx, prefix)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Skipped an admission check: cannot count the children", "prefix", klog.KObj(prefix))
		return nil
	}
	has, they := fmt.Sprintf("has %d children", children), "they are"
	switch children {
	case 0:
		return nil
	case 1:
		has, they = "has 1 child", "it is"
	}
	if p.parents == configuration.Deny && prefix.DeletionTimestamp == nil && !p.namespaceEnds(prefix.Namespace) {
		return apierrors.NewConflict(ipam.Resource("prefixes"), prefix.Name, fmt.Errorf("it %s: delete what is allocated from it first", has))
	}
	warning.AddWarning(ctx, "", fmt.Sprintf("Prefix %q %s and remains until %s gone; this cannot be undone", prefix.Name, has, they))
	return nil
}

// namespaceEnds reports whether a namespace is being deleted.
func (p *Plugin) namespaceEnds(name string) bool {
	if p.namespaces == nil {
		return false
	}
	namespace, err := p.namespaces.Get(name)
	return err == nil && (namespace.DeletionTimestamp != nil || namespace.Status.Phase == corev1.NamespaceTerminating)
}

// orphaned reports whether the parent of an allocation does not exist or cannot be read. Without a parent the
// allocation holds nothing.
func (p *Plugin) orphaned(ctx context.Context, allocation *ipam.PrefixAllocation) bool {
	ref := allocation.Spec.PrefixRef
	if ref == nil {
		return true
	}
	parent, err := p.Reader.Prefix(ctx, allocation.NamespaceOfParent(), ref.Name, true)
	return err != nil || parent == nil
}
