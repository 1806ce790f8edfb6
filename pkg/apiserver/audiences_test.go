// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	unionauth "k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/user"
)

// TestAcceptAudiences uses tokens with several audiences. The fake reviews them as kube-apiserver does: for the
// requested audiences, or for its own ones if none are requested.
func TestAcceptAudiences(t *testing.T) {
	const own, kube = "ipam.ironcore.dev", "https://kubernetes.default.svc"
	audiencesOf := map[string][]string{
		"of-its-own": {own}, "of-kube-apiserver": {kube}, "of-both": {kube, own}, "of-another": {"vault"}, "of-none": nil,
	}
	reviews := 0
	review := authenticator.TokenFunc(func(ctx context.Context, token string) (*authenticator.Response, bool, error) {
		reviews++
		wanted, limited := authenticator.AudiencesFrom(ctx)
		if !limited {
			wanted = authenticator.Audiences{kube}
		}
		if !slices.ContainsFunc(audiencesOf[token], wanted.Has) {
			return nil, false, errors.New("invalid for the target audiences")
		}
		return &authenticator.Response{User: &user.DefaultInfo{Name: token}}, true, nil
	})
	delegating := unionauth.NewFailOnError(bearertoken.New(review), anonymous.NewAuthenticator((&apiserver.AnonymousAuthConfig{Enabled: true}).Conditions))

	for _, test := range []struct {
		token     string
		audiences []string
		// name is the authenticated user, or empty if the token is rejected.
		name    string
		reviews int
	}{
		{"of-its-own", []string{own}, "of-its-own", 1},
		{"of-both", []string{own}, "of-both", 1},
		{"of-kube-apiserver", []string{own}, "of-kube-apiserver", 2},
		{"of-another", []string{own}, "", 2},
		{"of-none", []string{own}, "", 2},
		{"", []string{own}, user.Anonymous, 0},
		{"of-another", []string{own, "vault"}, "of-another", 1},
		{"of-its-own", nil, "", 1},
		{"of-kube-apiserver", nil, "of-kube-apiserver", 1},
		{"", nil, user.Anonymous, 0},
	} {
		r := (&http.Request{Header: http.Header{}}).WithContext(t.Context())
		if test.token != "" {
			r.Header.Set("Authorization", "Bearer "+test.token)
		}
		reviews = 0
		response, ok, err := acceptAudiences(delegating, test.audiences).AuthenticateRequest(r)
		name := ""
		if ok && err == nil {
			name = response.User.GetName()
		}
		if name != test.name || reviews != test.reviews {
			t.Errorf("token %q, audiences %q: it is %q after %d reviews instead of %q after %d", test.token, test.audiences, name, reviews, test.name, test.reviews)
		}
		if name != "" && r.Header.Get("Authorization") != "" {
			t.Errorf("token %q, audiences %q: it is passed on", test.token, test.audiences)
		}
	}
}
