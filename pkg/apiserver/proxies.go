// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"slices"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/request/x509"
)

// proxies authenticates those for whom a proxy vouches in headers, such as kube-apiserver for those whose requests it
// passes on, but verifies the certificate of the proxy only once in a while. Everybody else is for another
// authenticator.
type proxies struct {
	authenticator.Request
	userHeaders headerrequest.StringSliceProvider
	// isProxy authenticates the certificates of proxies, and headers whom a proxy vouches for.
	isProxy, headers authenticator.Request
}

// rememberProxies returns an authenticator of what config says. The other one knows of it too.
func rememberProxies(other authenticator.Request, config *authenticatorfactory.RequestHeaderConfig) *proxies {
	anybody := authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) {
		return &authenticator.Response{}, true, nil
	})
	return &proxies{
		Request:     other,
		userHeaders: config.UsernameHeaders,
		isProxy:     rememberCertificates(x509.NewDynamicCAVerifier(config.CAContentProvider.VerifyOptions, anybody, config.AllowedClientNames)),
		headers: group.NewAuthenticatedGroupAdder(
			headerrequest.NewDynamic(config.UsernameHeaders, config.UIDHeaders, config.GroupHeaders, config.ExtraHeaderPrefixes)),
	}
}

// AuthenticateRequest implements authenticator.Request.
func (p *proxies) AuthenticateRequest(r *http.Request) (*authenticator.Response, bool, error) {
	vouches := slices.ContainsFunc(p.userHeaders.Value(), func(header string) bool { return r.Header.Get(header) != "" })
	if vouches {
		if _, ok, err := p.isProxy.AuthenticateRequest(r); ok && err == nil {
			return p.headers.AuthenticateRequest(r)
		}
	}
	return p.Request.AuthenticateRequest(r)
}
