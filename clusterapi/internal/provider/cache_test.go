// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// indexed is a cache with objects that each have one value in an index. On the server each name is taken when an object is
// created, and gone when it is read.
type indexed struct {
	client.Client
	claims   map[string]ipamv1.IPAddressClaim
	prefixes map[string]v1alpha1.Prefix
}

// List implements client.Reader.
func (c indexed) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	o := (&client.ListOptions{}).ApplyOptions(options)
	if o.FieldSelector == nil {
		return nil
	}
	switch r := o.FieldSelector.Requirements()[0]; list := list.(type) {
	case *ipamv1.IPAddressClaimList:
		if claim, ok := c.claims[r.Field+"="+r.Value]; ok {
			list.Items = append(list.Items, claim)
		}
	case *v1alpha1.PrefixList:
		if prefix, ok := c.prefixes[r.Field+"="+r.Value]; ok {
			list.Items = append(list.Items, prefix)
		}
	}
	return nil
}

var prefixes = schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "prefixes"}

// Create implements client.Writer.
func (c indexed) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	return apierrors.NewAlreadyExists(prefixes, o.GetName())
}

// Get implements client.Reader.
func (c indexed) Get(_ context.Context, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	return apierrors.NewNotFound(prefixes, key.Name)
}

// A Prefix that is a pool may be paused while its last claim goes. When it is resumed, what it holds has to be released.
func TestPoolsOfPrefix(t *testing.T) {
	prefix := &v1alpha1.Prefix{}
	prefix.Name = "nodes"
	for _, test := range []struct {
		name  string
		cache indexed
		want  int
	}{
		{"no pool", indexed{}, 0},
		{"a claim", indexed{claims: map[string]ipamv1.IPAddressClaim{indexPool + "=Prefix/nodes": {}}}, 1},
		{"held for it", indexed{prefixes: map[string]v1alpha1.Prefix{indexHeldFor + "=Prefix/nodes": {}}}, 1},
		{"held for a PrefixPool", indexed{prefixes: map[string]v1alpha1.Prefix{indexHeldFor + "=PrefixPool/nodes": {}}}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &pools{common{Client: test.cache}, v1alpha1.PrefixKind}
			if got := r.ofPrefix(t.Context(), prefix); len(got) != test.want {
				t.Errorf("%v, not %d", got, test.want)
			}
		})
	}
}

// The Prefix that has the name of a child may be gone before it is read. That is no address for the claim.
func TestCreateTaken(t *testing.T) {
	r := &claims{common{Client: indexed{}, live: indexed{}}}
	claim := &ipamv1.IPAddressClaim{}
	p := &capiv1alpha1.PrefixPool{}
	p.Spec.ParentRef = &capiv1alpha1.PrefixReference{Name: "nodes"}
	waiting, err := r.create(t.Context(), claim, &resolved{pool: poolOfPrefixPool(p)}, netip.Prefix{})
	if !errors.Is(err, errAlreadyExists) {
		t.Errorf("it waits for %v, and the error is %v", waiting, err)
	}
}

// A claim is woken when a Prefix goes that has the name of its child and is of somebody else.
func TestClaimsOfPrefix(t *testing.T) {
	prefix := &v1alpha1.Prefix{}
	prefix.Name = "uid"
	r := &claims{common{Client: indexed{claims: map[string]ipamv1.IPAddressClaim{indexChild + "=uid": {}}}}}
	if got := r.ofPrefix(t.Context(), prefix); len(got) != 1 {
		t.Errorf("%v", got)
	}
}
