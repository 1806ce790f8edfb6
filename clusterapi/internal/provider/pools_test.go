// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	capiv1alpha1 "github.com/ironcore-dev/ipam-apiserver/clusterapi/api/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// TestHoldRefused shows that a pool holds the other addresses if the server refuses one, and that it is not ready.
func TestHoldRefused(t *testing.T) {
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	forbidden := apierrors.NewForbidden(prefixes, "any", errors.New("exceeded quota"))
	for _, tt := range []struct {
		name    string
		refused string
		err     error
		held    []string
		message string
	}{
		{"none", "nothing", forbidden, []string{"10.0.0.0/32", "10.0.0.1/32", "10.0.0.255/32"}, "is not allocated yet"},
		{"the first one", "10.0.0.1/32", forbidden, []string{"10.0.0.0/32", "10.0.0.255/32"}, "10.0.0.1 is the gateway address, which no machine may get: prefixes.ipam.ironcore.dev \"any\" is forbidden: exceeded quota"},
		{"one in the middle", "10.0.0.0/32", forbidden, []string{"10.0.0.1/32", "10.0.0.255/32"}, "10.0.0.0 is the network address"},
		{"no answer", "10.0.0.0/32", errors.New("connection refused"), []string{"10.0.0.1/32"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "root"}, Spec: v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, Prefix: "10.0.0.0/24"},
				Status: v1alpha1.PrefixStatus{Phase: v1alpha1.PrefixPhaseAllocated}}
			o := &capiv1alpha1.PrefixPool{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "nodes", UID: "uid"}, Spec: capiv1alpha1.PrefixPoolSpec{
				ParentRef: &capiv1alpha1.PrefixReference{Name: "root"}, Gateway: "10.0.0.1"}}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(root, o).WithIndex(&v1alpha1.Prefix{}, indexHeldFor, heldFor).
				WithInterceptorFuncs(interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
					if o.(*v1alpha1.Prefix).Spec.Prefix == tt.refused {
						return tt.err
					}
					return c.Create(ctx, o, options...)
				}}).Build()
			s, err := (&pools{common{Client: c, live: c}, capiv1alpha1.PrefixPoolKind}).hold(t.Context(), poolOfPrefixPool(o), true)
			if (err != nil) != (tt.refused != "nothing") {
				t.Errorf("%v", err)
			}
			message := ""
			if s.why != nil {
				message = s.why.message
			}
			if !strings.Contains(message, tt.message) || tt.message == "" && message != "" {
				t.Errorf("It says %q", message)
			}
			all := &v1alpha1.PrefixList{}
			if err := c.List(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			var held []string
			for _, p := range all.Items {
				if p.Name != root.Name {
					held = append(held, p.Spec.Prefix)
				}
			}
			slices.Sort(held)
			if !slices.Equal(held, tt.held) {
				t.Errorf("It holds %q instead of %q", held, tt.held)
			}
		})
	}
}
