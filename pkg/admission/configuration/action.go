// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package configuration

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/warning"
)

// Action is what a plugin does about a request that it has something against.
type Action string

const (
	// Allow accepts the request, and says nothing.
	Allow Action = "Allow"
	// Warn accepts the request, and warns whoever sent it.
	Warn Action = "Warn"
	// Deny refuses the request.
	Deny Action = "Deny"
)

// Take does what the action is about an object and what there is against it.
func (a Action) Take(ctx context.Context, kind schema.GroupKind, name string, errs field.ErrorList) error {
	switch {
	case len(errs) == 0 || a == Allow:
		return nil
	case a == Deny:
		return apierrors.NewInvalid(kind, name, errs)
	}
	for _, err := range errs {
		warning.AddWarning(ctx, "", fmt.Sprintf("%s: %s", err.Field, err.Detail))
	}
	return nil
}
