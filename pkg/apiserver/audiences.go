// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

// acceptAudiences returns an authenticator that accepts tokens for one of the audiences, and what the other authenticator
// accepts without any. The other one delegates to kube-apiserver, which then accepts tokens for itself: Prometheus logs
// in with one to read metrics.
//
// A request that sends a token tries the audiences first. The controllers send most requests, with such a token, and the
// other authenticator remembers the answer.
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
