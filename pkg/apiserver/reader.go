// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/validation"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	ipamrest "github.com/ironcore-dev/ipam-apiserver/registry/ipam/rest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// readTimeout is the timeout for each read of an admission plugin. If a read fails, the plugin accepts the request
// without the check.
const readTimeout = time.Second

// prefixReader is the Reader of the admission plugins. It reads Prefixes from the storage, which has a watch cache, and
// claims from etcd.
type prefixReader struct {
	rest.Getter
	rest.Lister
	planner *claims.Planner
}

var _ initializer.Reader = prefixReader{}

// readerOf returns the reader of the Prefixes and claims in a registry.
func readerOf(registry *ipamrest.Registry) (prefixReader, error) {
	storage := registry.Group.VersionedResourcesStorageMap[v1alpha1.GroupVersion.Version]["prefixes"]
	getter, isGetter := storage.(rest.Getter)
	lister, isLister := storage.(rest.Lister)
	if !isGetter || !isLister {
		return prefixReader{}, fmt.Errorf("prefixes cannot be read from a %T", storage)
	}
	return prefixReader{getter, lister, registry.Planner}, nil
}

// Prefix implements initializer.Reader.
func (r prefixReader) Prefix(ctx context.Context, namespace, name string, live bool) (*ipam.Prefix, error) {
	ctx, cancel := context.WithTimeout(genericapirequest.WithNamespace(ctx, namespace), readTimeout)
	defer cancel()
	options := &metav1.GetOptions{ResourceVersion: "0"}
	if live {
		options.ResourceVersion = ""
	}
	obj, err := r.Get(ctx, name, options)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return obj.(*ipam.Prefix), nil
}

// RootsOverlapping implements initializer.Reader. It uses the index of roots in the watch cache. If there are very many
// roots, it returns only some of them.
func (r prefixReader) RootsOverlapping(ctx context.Context, namespace string, overlapping netip.Prefix) ([]ipam.Prefix, error) {
	ctx, cancel := context.WithTimeout(genericapirequest.WithNamespace(ctx, namespace), readTimeout)
	defer cancel()
	obj, err := r.List(ctx, &internalversion.ListOptions{
		// Every revision is recent enough, but lists at revision 0 ignore the limit. The limit is low because there may
		// be very many overlapping roots, and messages name only a few.
		ResourceVersion:      "1",
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		FieldSelector:        claims.RootsOverlapping(namespace, overlapping),
		Limit:                validation.MaxOverlapsNamed + 1,
	})
	if err != nil {
		return nil, err
	}
	return obj.(*ipam.PrefixList).Items, nil
}

// AnyMatches implements initializer.Reader. The list stops at the first match.
func (r prefixReader) AnyMatches(ctx context.Context, namespace string, selector labels.Selector) (bool, error) {
	ctx, cancel := context.WithTimeout(genericapirequest.WithNamespace(ctx, namespace), readTimeout)
	defer cancel()
	obj, err := r.List(ctx, &internalversion.ListOptions{
		// Every revision is recent enough, but lists at revision 0 ignore the limit.
		ResourceVersion:      "1",
		ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
		LabelSelector:        selector,
		Limit:                1,
	})
	return err == nil && len(obj.(*ipam.PrefixList).Items) > 0, err
}

// Children implements initializer.Reader.
func (r prefixReader) Children(ctx context.Context, prefix *ipam.Prefix) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return r.planner.Children(ctx, prefix)
}

// Holder implements initializer.Reader.
func (r prefixReader) Holder(ctx context.Context, parent *ipam.Prefix, prefix netip.Prefix, namespace string) (netip.Prefix, string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return r.planner.Holder(ctx, parent, prefix, namespace)
}

// Shared implements initializer.Reader.
func (r prefixReader) Shared(ctx context.Context, prefix *ipam.Prefix, namespace string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return r.planner.IsShared(ctx, prefix, namespace)
}
