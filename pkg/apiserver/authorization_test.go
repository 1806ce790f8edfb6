// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"testing"

	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// answer is the decision of an authorizer.
type answer struct {
	decision authorizer.Decision
	reason   string
	err      error
}

func TestAuthorizeByKind(t *testing.T) {
	t.Parallel()
	allow, deny, none := answer{authorizer.DecisionAllow, "allowed", nil}, answer{authorizer.DecisionDeny, "denied", nil}, answer{authorizer.DecisionNoOpinion, "", nil}
	broken := answer{authorizer.DecisionNoOpinion, "", errors.New("no answer")}
	object := authorizer.AttributesRecord{ResourceRequest: true, Verb: "update", Namespace: "team", Resource: "prefixes", Subresource: "status", Name: "a"}
	list := authorizer.AttributesRecord{ResourceRequest: true, Verb: "list", Namespace: "team", Resource: "prefixes"}
	path := authorizer.AttributesRecord{Verb: "get", Path: "/metrics", Name: "odd"}
	for name, test := range map[string]struct {
		request authorizer.AttributesRecord
		// answers contains the decisions by name. "" is for all names.
		answers  map[string]answer
		asked    []string
		expected answer
	}{
		"all":                 {object, map[string]answer{"": allow}, []string{""}, allow},
		"one":                 {object, map[string]answer{"": none, "a": allow}, []string{"", "a"}, allow},
		"none":                {object, map[string]answer{"": none, "a": none}, []string{"", "a"}, none},
		"denied":              {object, map[string]answer{"": deny, "a": deny}, []string{"", "a"}, deny},
		"all denied, but one": {object, map[string]answer{"": deny, "a": allow}, []string{"", "a"}, allow},
		"no answer for all":   {object, map[string]answer{"": broken, "a": allow}, []string{"", "a"}, allow},
		"no answer":           {object, map[string]answer{"": broken, "a": broken}, []string{"", "a"}, broken},
		"without a name":      {list, map[string]answer{"": none}, []string{""}, none},
		"no object":           {path, map[string]answer{"odd": allow}, []string{"odd"}, allow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked []string
			a := authorizeByKind(authorizer.AuthorizerFunc(func(_ context.Context, attributes authorizer.Attributes) (authorizer.Decision, string, error) {
				asked = append(asked, attributes.GetName())
				if attributes.GetVerb() != test.request.Verb || attributes.GetNamespace() != test.request.Namespace || attributes.GetSubresource() != test.request.Subresource {
					t.Errorf("asked for something else: %+v", attributes)
				}
				is, ok := test.answers[attributes.GetName()]
				if !ok {
					t.Errorf("asked about %q", attributes.GetName())
				}
				return is.decision, is.reason, is.err
			}))
			decision, reason, err := a.Authorize(t.Context(), test.request)
			if got := (answer{decision, reason, err}); got != test.expected {
				t.Errorf("got %+v instead of %+v", got, test.expected)
			}
			if len(asked) != len(test.asked) {
				t.Errorf("asked %q instead of %q", asked, test.asked)
			}
		})
	}
}
