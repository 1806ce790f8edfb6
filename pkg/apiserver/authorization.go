// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// everyName is a request for an object, asked for all objects of its namespace: without a name a
// SubjectAccessReview means all of them.
type everyName struct{ authorizer.Attributes }

// GetName implements authorizer.Attributes.
func (everyName) GetName() string { return "" }

// authorizeByKind asks an authorizer first whether somebody may do something to all objects of a namespace, and
// about the one that they name only if they may not. Who asks elsewhere and remembers the answers asks once
// and not for each object: controllers bind each object once.
func authorizeByKind(a authorizer.Authorizer) authorizer.Authorizer {
	return authorizer.AuthorizerFunc(func(ctx context.Context, attributes authorizer.Attributes) (authorizer.Decision, string, error) {
		if attributes.IsResourceRequest() && attributes.GetName() != "" {
			if decision, reason, err := a.Authorize(ctx, everyName{attributes}); decision == authorizer.DecisionAllow {
				return decision, reason, err
			}
		}
		return a.Authorize(ctx, attributes)
	})
}
