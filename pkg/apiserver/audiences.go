// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// acceptAudiences returns an authenticator that also accepts tokens for one of the given audiences. Requests that it
// does not accept this way are passed to other unchanged. So other, which delegates to kube-apiserver, still accepts
// tokens for kube-apiserver: Prometheus uses such a token to read metrics.
//
// For requests with a token, the audiences are tried first. Most requests come from the controllers, whose token is for
// one of the audiences, and other caches the result.
func acceptAudiences(other authenticator.Request, audiences authenticator.Audiences) authenticator.Request {
	if len(audiences) == 0 {
		return other
	}
	return authenticator.RequestFunc(func(r *http.Request) (*authenticator.Response, bool, error) {
		if r.Header.Get("Authorization") != "" {
			response, ok, err := other.AuthenticateRequest(r.WithContext(authenticator.WithAudiences(r.Context(), audiences)))
			if ok && err == nil {
				return response, true, nil
			}
		}
		return other.AuthenticateRequest(r)
	})
}
