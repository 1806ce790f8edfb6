// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// testAccounts lists all permissions of the service accounts of the controllers, and tests the most important one:
// the account of the controller manager cannot read Secrets.
func testAccounts(t *testing.T, i *installation) {
	const manager, certificates = "ipam-controller-manager", "ipam-certificate-controller"
	for _, account := range []struct {
		name string
		may  []string
	}{
		{manager, []string{
			"/namespaces: list,watch",
			"apiregistration.k8s.io/apiservices[v1alpha1.ipam.ironcore.dev]: get",
			"coordination.k8s.io/leases: create",
			"coordination.k8s.io/leases[ipam-controller-manager]: get,update",
			"events.k8s.io/events: create,patch,update",
			"ipam.ironcore.dev/prefixallocations/binding: create",
			"ipam.ironcore.dev/prefixallocations/status: update",
			"ipam.ironcore.dev/prefixallocations: create,delete,get,list,update,watch",
			"ipam.ironcore.dev/prefixes/binding: create",
			"ipam.ironcore.dev/prefixes/status: patch,update",
			"ipam.ironcore.dev/prefixes: get,list,update,watch",
			"ipam.ironcore.dev/prefixpolicies/status: update",
			"ipam.ironcore.dev/prefixpolicies: get,list,watch",
		}},
		{certificates, []string{
			"/secrets: create",
			"/secrets[ipam-apiserver-ca,ipam-apiserver-tls]: get,list,update,watch",
			"/secrets[ipam-etcd-ca,ipam-etcd-tls,ipam-etcd-client-tls]: get,list,update,watch",
			"apiregistration.k8s.io/apiservices[v1alpha1.ipam.ironcore.dev]: get,list,patch,watch",
			"coordination.k8s.io/leases: create",
			"coordination.k8s.io/leases[ipam-certificate-controller]: get,update",
		}},
	} {
		client := i.account(account.name)
		// All accounts may ask for their identity and permissions, and read bundles of public certificates.
		if may := rulesOf(t, client, product.Namespace, "authentication.k8s.io", "authorization.k8s.io", "certificates.k8s.io"); !slices.Equal(may, account.may) {
			t.Errorf("%s may\n%s\ninstead of\n%s", account.name, strings.Join(may, "\n"), strings.Join(account.may, "\n"))
		}
		for _, rule := range rulesOf(t, client, "default") {
			// The labels of namespaces tell with whom a Prefix is shared.
			if strings.HasPrefix(rule, "/") && (account.name != manager || rule != "/namespaces: list,watch") {
				t.Errorf("%s may in another namespace: %s", account.name, rule)
			}
		}
	}

	secrets, err := i.Client.CoreV1().Secrets(product.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	of := func(name string) map[string]bool {
		t.Helper()
		readable := map[string]bool{}
		for _, secret := range secrets.Items {
			switch _, err := i.account(name).CoreV1().Secrets(product.Namespace).Get(t.Context(), secret.Name, metav1.GetOptions{}); {
			case err == nil:
				readable[secret.Name] = true
			case !apierrors.IsForbidden(err):
				t.Errorf("%s reads %s: %v", name, secret.Name, err)
			}
		}
		for what, err := range map[string]error{
			"list":  second(i.account(name).CoreV1().Secrets(product.Namespace).List(t.Context(), metav1.ListOptions{})),
			"watch": second(i.account(name).CoreV1().Secrets(product.Namespace).Watch(t.Context(), metav1.ListOptions{})),
			"run a pod": second(i.account(name).CoreV1().Pods(product.Namespace).Create(t.Context(), &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "thief"}}, metav1.CreateOptions{})),
		} {
			if !apierrors.IsForbidden(err) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		return readable
	}
	if readable := of(manager); len(readable) > 0 {
		t.Errorf("%s reads %v", manager, readable)
	}
	// This shows that the test would detect readable Secrets.
	if readable := of(certificates); !readable["ipam-etcd-client-tls"] || len(readable) != 5 {
		t.Errorf("%s reads %v", certificates, readable)
	}
}

func second[T any](_ T, err error) error { return err }

// account returns a client with the token of a service account of the product.
func (i *installation) account(name string) kubernetes.Interface {
	i.Helper()
	_, config := i.ServiceAccount(product.Namespace, name)
	return kubernetes.NewForConfigOrDie(config)
}

// rulesOf returns all permissions of a client in a namespace, except those for the given API groups.
func rulesOf(t *testing.T, client kubernetes.Interface, namespace string, but ...string) []string {
	t.Helper()
	review, err := client.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), &authorizationv1.SelfSubjectRulesReview{
		Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
	}, metav1.CreateOptions{})
	if err != nil || review.Status.Incomplete && review.Status.EvaluationError != "node authorizer does not support user rule resolution" {
		t.Fatalf("%v, %v", review.Status, err)
	}
	var rules []string
	for _, rule := range review.Status.ResourceRules {
		slices.Sort(rule.Verbs)
		for _, group := range rule.APIGroups {
			if slices.Contains(but, group) {
				continue
			}
			for _, resource := range rule.Resources {
				names := ""
				if len(rule.ResourceNames) > 0 {
					names = "[" + strings.Join(rule.ResourceNames, ",") + "]"
				}
				rules = append(rules, group+"/"+resource+names+": "+strings.Join(rule.Verbs, ","))
			}
		}
	}
	slices.Sort(rules)
	return rules
}

// argument returns the value of a flag of a process.
func argument(p *process.Process, flag string) string {
	for _, arg := range p.Cmd.Args {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value
		}
	}
	return ""
}

// testDirectToken shows which servers accept tokens of the account of the controller manager, by audience.
func testDirectToken(t *testing.T, i *installation) {
	const account = "ipam-controller-manager"
	for _, test := range []struct {
		name, token              string
		apiServer, kubeAPIServer int
	}{
		{"that it logs in with directly", tokenOf(t, argument(i.Managers[0], "--apiservice-token-file")), http.StatusOK, http.StatusUnauthorized},
		{"for kube-apiserver", i.Token(product.Namespace, account), http.StatusOK, http.StatusOK},
		{"for somebody else", i.Token(product.Namespace, account, "vault"), http.StatusUnauthorized, http.StatusUnauthorized},
		{"for somebody else and the API server", i.Token(product.Namespace, account, "vault", "ipam.ironcore.dev"), http.StatusOK, http.StatusUnauthorized},
	} {
		if code, body := i.list(t, "default", &tls.Config{InsecureSkipVerify: true}, test.token, nil); code != test.apiServer {
			t.Errorf("a token %s: the API server says %d instead of %d: %s", test.name, code, test.apiServer, body)
		}
		config := rest.AnonymousClientConfig(i.Admin)
		config.BearerToken = test.token
		for _, path := range []string{"/apis/ipam.ironcore.dev/v1alpha1/namespaces/default/prefixes", "/apis/coordination.k8s.io/v1/namespaces/ipam-system/leases/" + account} {
			code := 0
			err := kubernetes.NewForConfigOrDie(config).RESTClient().Get().AbsPath(path).Do(t.Context()).StatusCode(&code).Error()
			if code != test.kubeAPIServer {
				t.Errorf("a token %s: kube-apiserver says %d instead of %d about %s: %v", test.name, code, test.kubeAPIServer, path, err)
			}
		}
	}
}

// testAuditLog checks that the audit log of the API servers has the direct writes of the controllers, and the
// writes of users through kube-apiserver.
func testAuditLog(t *testing.T, i *installation) {
	u := i.newUser("team-audit", "edit")
	if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), root("root", "10.0.0.0/8"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), child("child", "root", 16), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	u.waitAllocated(2)
	if _, err := u.client.Prefixes(u.namespace).Create(t.Context(), root("root", "10.0.0.0/8"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Fatalf("again: %v", err)
	}
	const controllers = "system:serviceaccount:ipam-system:ipam-controller-manager"
	i.Eventually("all is in the audit log", func() error {
		written := map[string]auditv1.Event{}
		for _, s := range i.Servers {
			for _, event := range auditEvents(t, s.Process) {
				if event.Level != auditv1.LevelMetadata || event.RequestObject != nil || event.ResponseObject != nil {
					t.Fatalf("not only metadata: %v", event)
				}
				if slices.Contains([]string{"get", "list", "watch"}, event.Verb) || event.ObjectRef.APIGroup != "ipam.ironcore.dev" {
					t.Fatalf("it is not of a write: %v", event)
				}
				if event.ObjectRef.Namespace == u.namespace {
					ref := event.ObjectRef
					written[strings.TrimSuffix(fmt.Sprintf("%s %s %s/%s %d", event.User.Username, event.Verb, ref.Resource, ref.Subresource, event.ResponseStatus.Code), "/")] = event
				}
			}
		}
		for _, want := range []string{
			u.name + " create prefixes/ 201",
			u.name + " create prefixes/ 409",
			controllers + " create prefixallocations/ 201",
			controllers + " create prefixallocations/binding 201",
			controllers + " create prefixes/binding 201",
		} {
			event, ok := written[want]
			if !ok {
				return fmt.Errorf("no %q among %d events", want, len(written))
			}
			if event.User.Username != controllers {
				continue
			}
			// The controller authenticates with the token that is only for the API server.
			var id string
			for _, m := range i.Managers {
				id += " " + tokenID(t, argument(m, "--apiservice-token-file"))
			}
			if used := event.User.Extra["authentication.kubernetes.io/credential-id"]; len(used) != 1 || !strings.Contains(id, strings.TrimPrefix(used[0], "JTI=")) {
				t.Errorf("%s: logged in with %q, which is none of%s", want, used, id)
			}
		}
		return nil
	})
}

// auditEvents returns the audit events of an API server, which are a part of its log.
func auditEvents(t *testing.T, p *process.Process) []auditv1.Event {
	t.Helper()
	data, err := os.ReadFile(p.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	var events []auditv1.Event
	for line := range bytes.Lines(data) {
		if !bytes.HasPrefix(line, []byte(`{"kind":"Event"`)) || !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		var event auditv1.Event
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		events = append(events, event)
	}
	return events
}

// tokenID returns the identifier of the token in a file.
func tokenID(t *testing.T, file string) string {
	t.Helper()
	parts := strings.Split(tokenOf(t, file), ".")
	if len(parts) != 3 {
		t.Fatalf("%s has no token", file)
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		ID string `json:"jti"`
	}
	if err := json.Unmarshal(data, &claims); err != nil || claims.ID == "" {
		t.Fatalf("%v: %s", err, data)
	}
	return claims.ID
}
