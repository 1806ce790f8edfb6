// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package prefixinuse refuses to take an allocation from under a Prefix. The storage does that too,
// whoever asks; here it is also told to whoever tries with a dry run, and before finalizers.
package prefixinuse

import (
	"context"
	"errors"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/configuration"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/request"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
)

const (
	// PluginName is the name of the plugin.
	PluginName = "PrefixInUse"
	// Kind is the kind of its configuration, in which there is nothing to say.
	Kind = "PrefixInUseConfiguration"
)

// Plugin looks at the deletion of PrefixAllocations.
type Plugin struct {
	*admission.Handler
	initializer.WithReader
}

var _ admission.ValidationInterface = &Plugin{}

// New returns the plugin with a configuration.
func New(document *configuration.Document) (*Plugin, error) {
	return &Plugin{Handler: admission.NewHandler(admission.Delete)}, document.Decode(Kind)
}

// Validate implements admission.ValidationInterface.
func (p *Plugin) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	allocation, ok := a.GetOldObject().(*ipam.PrefixAllocation)
	if !ok || a.GetOperation() != admission.Delete || a.GetSubresource() != "" || allocation.Status.Phase != ipam.PrefixAllocationPhaseAllocated {
		return nil
	}
	owner := metav1.GetControllerOfNoCopy(allocation)
	if owner == nil || owner.Kind != ipam.PrefixKind {
		return nil
	}
	errs := initializer.Objections(ctx, p.Reader, allocation.Namespace, owner.Name, func(child *ipam.Prefix) field.ErrorList {
		held := request.PrefixOf(child)
		if child.UID != owner.UID || child.Status.Phase != ipam.PrefixPhaseAllocated || !held.IsValid() || held != request.Parse(allocation.Status.Prefix) {
			return nil
		}
		return field.ErrorList{field.Forbidden(field.NewPath("status", "prefix"), fmt.Sprintf("%s is what Prefix %s stands on: delete that Prefix instead", held, child.Name))}
	})
	if len(errs) == 0 || p.orphaned(ctx, allocation) {
		return nil
	}
	return apierrors.NewConflict(ipam.Resource("prefixallocations"), allocation.Name, errors.New(errs[0].Detail))
}

// orphaned reports that the parent does not exist, so that the allocation holds nothing.
func (p *Plugin) orphaned(ctx context.Context, allocation *ipam.PrefixAllocation) bool {
	ref := allocation.Spec.PrefixRef
	if ref == nil {
		return true
	}
	parent, err := p.Reader.Prefix(ctx, allocation.Namespace, ref.Name, true)
	return err != nil || parent == nil
}
