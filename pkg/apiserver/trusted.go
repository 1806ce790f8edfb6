// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"

	"k8s.io/apiserver/pkg/authentication/user"
	genericfilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	serverfilters "k8s.io/apiserver/pkg/server/filters"
)

// Trusted returns a handler for clients in the process of the server, whose requests are those of the
// server itself. It does with them what Handler of GenericAPIServer does, but for what is there because of
// others: it does not ask who they are and what they may do, nor limit how many they are, trace them
// or answer in their place when they take too long; then their context ends. It does not warn them: a
// warning may be written when the answer has been, which only that filter keeps from doing harm.
func (s *Server) Trusted() http.Handler {
	self := &user.DefaultInfo{Name: user.APIServerUser, Groups: []string{user.SystemPrivilegedGroup}}
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.GenericAPIServer.Handler.Director.ServeHTTP(w, r.WithContext(request.WithUser(r.Context(), self)))
	})
	handler = genericfilters.WithRequestDeadline(handler, nil, nil, s.config.LongRunningFunc, s.config.Serializer, s.config.RequestTimeout)
	handler = serverfilters.WithWaitGroup(handler, s.config.LongRunningFunc, s.config.NonLongRunningRequestWaitGroup)
	handler = genericfilters.WithRequestInfo(handler, s.config.RequestInfoResolver)
	handler = genericfilters.WithRequestReceivedTimestamp(handler)
	return genericfilters.WithAuditInit(handler)
}
