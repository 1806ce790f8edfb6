// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"context"
	"errors"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
)

// cooler deletes PrefixAllocations whose space may have to cool down. The storage decides whether it has to, when it plans
// the removal, or the update that sets a deletionTimestamp: it fails with a claims.CoolingError. Then the object stays and says until when, and the request succeeds, like
// a graceful deletion of a Pod.
//
// It is no graceful deletion of Kubernetes with a deletionTimestamp, because the object can come to life again.
type cooler struct {
	store *genericregistry.Store
	// updates is the store for the update that makes the space of an object cool down.
	updates *genericregistry.Store
	planner *claims.Planner
	// cool is Strategies.Cool.
	cool func(obj runtime.Object, planner *claims.Planner, d time.Duration)
}

// releasesEarly reports whether a request wants an object to be gone at once: with a grace period of 0 seconds, or of 1,
// which is what kubectl delete --now sends.
func releasesEarly(options *metav1.DeleteOptions) bool {
	return options.GracePeriodSeconds != nil && *options.GracePeriodSeconds <= 1
}

// delete implements rest.GracefulDeleter.
func (c *cooler) delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if options == nil {
		options = &metav1.DeleteOptions{}
	}
	if releasesEarly(options) {
		return c.store.Delete(claims.WithEarlyRelease(ctx), name, validate, options)
	}
	obj, deleted, err := c.store.Delete(ctx, name, validate, options)
	cooling := (*claims.CoolingError)(nil)
	switch {
	case !errors.As(err, &cooling):
		return obj, deleted, err
	case cooling.Until.IsZero():
		return c.begin(ctx, name, options, cooling)
	}
	warning.AddWarning(ctx, "", cooling.Error()+"; a grace period of 0 seconds releases it")
	obj, err = c.store.Get(ctx, name, &metav1.GetOptions{})
	return obj, false, err
}

// begin makes the space of an object cool down. The storage checks again that it has to.
func (c *cooler) begin(ctx context.Context, name string, options *metav1.DeleteOptions, cooling *claims.CoolingError) (runtime.Object, bool, error) {
	cool := func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		allocation := old.DeepCopyObject().(*ipam.PrefixAllocation)
		if conditions := options.Preconditions; conditions != nil &&
			(conditions.UID != nil && *conditions.UID != allocation.UID ||
				conditions.ResourceVersion != nil && *conditions.ResourceVersion != allocation.ResourceVersion) {
			return nil, apierrors.NewConflict(c.store.DefaultQualifiedResource, name, errors.New("it is not as the preconditions say"))
		}
		if !cooling.IsOf(allocation) {
			// Of a version that is too old, the storage reads the current one and tries again.
			return nil, apierrors.NewConflict(c.store.DefaultQualifiedResource, name, errors.New("it is another one than at the beginning of this request"))
		}
		if allocation.Status.CoolingUntil == nil {
			c.cool(allocation, c.planner, cooling.For)
		}
		return allocation, nil
	}
	obj, _, err := c.updates.Update(ctx, name, rest.DefaultUpdatedObjectInfo(nil, cool), rest.ValidateAllObjectFunc,
		rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{DryRun: options.DryRun})
	return obj, false, err
}
