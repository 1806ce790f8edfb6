// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"errors"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// OnDryRun returns how an update is validated that may be a dry run. A dry run is not written, so
// that no transaction would refuse it.
func OnDryRun(getter generic.RESTOptionsGetter, dryRun []string) rest.ValidateObjectUpdateFunc {
	if g, ok := getter.(*RESTOptionsGetter); ok && dryrun.IsDryRun(dryRun) {
		return g.Claims().Try
	}
	return rest.ValidateAllObjectUpdateFunc
}

// Try tells whether a write that makes obj of old would be refused, without writing anything.
func (c *Claims) Try(ctx context.Context, obj, old runtime.Object) error {
	for range maxPlans {
		p, err := c.planUpdate(ctx, old, obj, true)
		if err != nil || p.empty() {
			return err
		}
		response, err := c.kv.Txn(ctx).If(p.compares()...).Commit()
		if err != nil || response.Succeeded {
			return err
		}
		if err := p.why(ctx, c.kv); !errors.Is(err, errStale) {
			return err
		}
	}
	return apierrors.NewServerTimeout(ipam.Resource("prefixes"), "write", 1)
}
