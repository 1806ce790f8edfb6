// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// OnDryRun returns the validation of an update. dryRun is the option of the request. If it is set, the validation
// also reports what the transaction would refuse, because a dry run does not get as far as the transaction.
func (pl *Planner) OnDryRun(dryRun []string, validate rest.ValidateObjectUpdateFunc) rest.ValidateObjectUpdateFunc {
	if !dryrun.IsDryRun(dryRun) {
		return validate
	}
	return func(ctx context.Context, obj, old runtime.Object) error {
		if validate != nil {
			if err := validate(ctx, obj, old); err != nil {
				return err
			}
		}
		return pl.try(ctx, func() (Plan, error) { return pl.PlanUpdate(ctx, true, old, obj) })
	}
}

// OnDryRunDelete returns the validation of a removal. If dryRun is set, it also reports what the transaction would
// refuse. It does not for an object with finalizers, which a delete request does not remove yet. An allocation whose space
// cools down is not refused: the request is accepted, and changes nothing.
func (pl *Planner) OnDryRunDelete(dryRun []string, validate rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	if !dryrun.IsDryRun(dryRun) {
		return validate
	}
	return func(ctx context.Context, obj runtime.Object) error {
		if validate != nil {
			if err := validate(ctx, obj); err != nil {
				return err
			}
		}
		if object, err := meta.Accessor(obj); err != nil || len(object.GetFinalizers()) > 0 {
			return err
		}
		if err := pl.try(ctx, func() (Plan, error) { return pl.PlanDelete(ctx, true, obj) }); !isCoolingError(err) {
			return err
		}
		return nil
	}
}

// try returns the error with which a write would be refused, and nil if it would not. It writes nothing. plan plans
// the write.
func (pl *Planner) try(ctx context.Context, plan func() (Plan, error)) error {
	return WithPlan(ctx, func(ctx context.Context, p *Plan, _ bool) error {
		planned, err := plan()
		if err != nil {
			return err
		}
		p.Set(planned)
		if p.empty() {
			return nil
		}
		response, err := pl.KV.Txn(ctx).If(p.compares()...).Commit()
		if err != nil || response.Succeeded {
			return err
		}
		return p.why(ctx, pl.KV)
	})
}
