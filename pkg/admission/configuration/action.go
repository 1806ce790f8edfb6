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

// Action is how a plugin handles a request that violates its rules.
type Action string

const (
	// Allow accepts the request silently.
	Allow Action = "Allow"
	// Warn accepts the request and sends warnings to the client.
	Warn Action = "Warn"
	// Deny rejects the request.
	Deny Action = "Deny"
)

// Take applies the action to a request for an object that violates the rules as errs says. It returns an Invalid API
// error if the action is Deny and errs is not empty. If the action is Warn, it adds a warning for each error.
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
