// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// testRoles tries every verb on every resource with every role, and compares the result with the permissions.
func testRoles(t *testing.T, i *installation) {
	const namespace = "team-roles"
	type may map[string]bool
	reading := []string{"get prefixes", "list prefixes", "watch prefixes", "get prefixes/status",
		"get prefixallocations", "list prefixallocations", "watch prefixallocations", "get prefixallocations/status",
		"get prefixpolicies", "list prefixpolicies", "watch prefixpolicies", "get prefixpolicies/status"}
	writing := []string{"create prefixes", "update prefixes", "patch prefixes", "delete prefixes", "deletecollection prefixes"}
	administering := []string{"create prefixallocations", "update prefixallocations", "patch prefixallocations", "delete prefixallocations", "deletecollection prefixallocations",
		"create prefixpolicies", "update prefixpolicies", "patch prefixpolicies", "delete prefixpolicies", "deletecollection prefixpolicies"}
	set := func(lists ...[]string) may {
		m := may{}
		for _, list := range lists {
			for _, what := range list {
				m[what] = true
			}
		}
		return m
	}
	nobody := i.newUser(namespace, "view")
	for _, who := range []struct {
		role string
		may  may
	}{
		{"view", set(reading)},
		{"edit", set(reading, writing)},
		{"admin", set(reading, writing, administering)},
		{"", set()},
	} {
		u := nobody
		switch who.role {
		case "view":
		case "":
			_, config := i.User("somebody-else")
			u = &user{installation: i, name: "somebody-else", namespace: namespace, config: config, client: versioned.NewForConfigOrDie(config).IpamV1alpha1()}
		default:
			u = i.newUser(namespace, who.role)
		}
		for what, try := range attempts(t, u) {
			err := try()
			if denied := apierrors.IsForbidden(err); denied == who.may[what] {
				t.Errorf("role %q: %s: %v", who.role, what, err)
			}
		}
		// The same in another namespace is forbidden.
		if _, err := u.client.Prefixes("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("role %q: list in another namespace: %v", who.role, err)
		}
	}
}

// attempts returns all possible requests. A permitted request can still fail for another reason, for example
// because there is no such object.
func attempts(t *testing.T, u *user) map[string]func() error {
	ctx, client := t.Context(), dynamic.NewForConfigOrDie(u.config)
	const name = "nothing"
	patch := []byte(`{"metadata":{"labels":{"a":"b"}}}`)
	all := map[string]func() error{}
	for _, kind := range append(slices.Clone(harness.Kinds), harness.PolicyKind) {
		objects := client.Resource(schema.GroupVersion(v1alpha1.GroupVersion).WithResource(kind.Resource)).Namespace(u.namespace)
		named := func(kind string) *unstructured.Unstructured {
			object := &unstructured.Unstructured{}
			object.SetAPIVersion(harness.GroupVersion)
			object.SetKind(kind)
			object.SetName(name)
			return object
		}
		maps.Copy(all, map[string]func() error{
			"list " + kind.Resource: func() error { _, err := objects.List(ctx, metav1.ListOptions{}); return err },
			"watch " + kind.Resource: func() error {
				w, err := objects.Watch(ctx, metav1.ListOptions{})
				if err == nil {
					w.Stop()
				}
				return err
			},
			"create " + kind.Resource: func() error {
				// Without a name, the object is never created.
				unnamed := named(kind.Name)
				unnamed.SetName("")
				_, err := objects.Create(ctx, unnamed, metav1.CreateOptions{})
				return err
			},
			"delete " + kind.Resource: func() error { return objects.Delete(ctx, name, metav1.DeleteOptions{}) },
			"deletecollection " + kind.Resource: func() error {
				return objects.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "no=thing"})
			},
			"create " + kind.Resource + "/binding": func() error {
				_, err := objects.Create(ctx, named(kind.Name+"Binding"), metav1.CreateOptions{}, "binding")
				return err
			},
		})
		for _, subresources := range [][]string{nil, {"status"}} {
			resource := strings.Join(append([]string{kind.Resource}, subresources...), "/")
			maps.Copy(all, map[string]func() error{
				"get " + resource: func() error { _, err := objects.Get(ctx, name, metav1.GetOptions{}, subresources...); return err },
				"update " + resource: func() error {
					_, err := objects.Update(ctx, named(kind.Name), metav1.UpdateOptions{}, subresources...)
					return err
				},
				"patch " + resource: func() error {
					_, err := objects.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}, subresources...)
					return err
				},
			})
		}
	}
	return all
}

// testPolicies has the owner of a pool set rules for it, and a tenant, who may only read them, live by them.
func testPolicies(t *testing.T, i *installation) {
	const namespace = "team-policies"
	owner, tenant := i.newUser(namespace, "admin"), i.newUser(namespace, "edit")
	for family, pool := range map[string]struct {
		root, reserved, first string
		length                int32
	}{
		"v4": {"10.0.0.0/24", "10.0.0.0/26", "10.0.0.128/26", 26},
		"v6": {"2001:db8::/56", "2001:db8::/58", "2001:db8:0:80::/58", 58},
	} {
		parent := root(family, pool.root)
		parent.Labels = map[string]string{"pool": family}
		policy := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Name: family}, Spec: v1alpha1.PrefixPolicySpec{
			PrefixSelector: &metav1.LabelSelector{MatchLabels: parent.Labels},
			Reserved:       []v1alpha1.PrefixReservation{{CIDR: pool.reserved}},
			ChildLengths:   &v1alpha1.PrefixChildLengths{Min: pool.length, Max: pool.length, Default: pool.length},
			Strategy:       v1alpha1.PrefixStrategySpread,
			CoolDown:       &metav1.Duration{Duration: time.Hour},
		}}
		if _, err := owner.client.PrefixPolicies(namespace).Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := owner.client.Prefixes(namespace).Create(t.Context(), parent, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		// The server knows the default as soon as its watch cache has the policy and the pool.
		i.Eventually("a child without a length", func() error {
			_, err := tenant.client.Prefixes(namespace).Create(t.Context(), child("of-"+family, family, 0), metav1.CreateOptions{})
			return err
		})
		if _, err := tenant.client.Prefixes(namespace).Create(t.Context(), child("small-of-"+family, family, pool.length+1), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"of-" + family: pool.first, "small-of-" + family: v1alpha1.ReasonLengthNotAllowed} {
			i.Eventually(name, func() error {
				p, err := tenant.client.Prefixes(namespace).Get(t.Context(), name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				condition := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
				if p.Spec.Prefix != want && (condition == nil || condition.Reason != want) {
					return fmt.Errorf("not %s: %+v %+v", want, p.Spec, p.Status)
				}
				return nil
			})
		}
		// The space of the child cools down, and the garbage collector does not change that. The same name gets it back.
		for range 2 {
			tenant.in("delete", "prefix", "of-"+family, "--cascade=foreground", "--timeout=60s")
			i.Eventually("the space cools down", func() error {
				if got := tenant.in("get", "prefixallocations"); !strings.Contains(got, "Cooling     "+pool.first) && !strings.Contains(got, "Cooling   "+pool.first) {
					return errors.New(got)
				}
				return nil
			})
			if _, err := tenant.client.Prefixes(namespace).Create(t.Context(), child("of-"+family, family, 0), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			i.Eventually("the child has it again", func() error {
				p, err := tenant.client.Prefixes(namespace).Get(t.Context(), "of-"+family, metav1.GetOptions{})
				if err == nil && (p.Status.Phase != v1alpha1.PrefixPhaseAllocated || p.Spec.Prefix != pool.first) {
					err = fmt.Errorf("%+v %+v", p.Spec, p.Status)
				}
				return err
			})
		}
		// Who may delete allocations may end it early.
		tenant.in("delete", "prefix", "of-"+family, "--timeout=60s")
		i.Eventually("the space is released", func() error {
			list, err := owner.client.PrefixAllocations(namespace).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, a := range list.Items {
				if a.Status.CoolingUntil == nil {
					continue
				}
				if err := tenant.client.PrefixAllocations(namespace).Delete(t.Context(), a.Name, *metav1.NewDeleteOptions(0)); !apierrors.IsForbidden(err) {
					t.Errorf("the tenant may release space: %v", err)
				}
				owner.in("delete", "prefixallocation", a.Name, "--now", "--timeout=60s")
				return nil
			}
			return errors.New("nothing cools down")
		})
		i.Eventually("the policy is Ready", func() error {
			if got := tenant.in("get", "prefixpolicies", family); !strings.Contains(got, "True") {
				return errors.New(got)
			}
			return nil
		})
	}
	contains(t, tenant.in("explain", "prefixpolicy.spec"), "childLengths", "reserved", "strategy", "coolDown")
}

// testIdentity sends requests directly to the API server, without kube-apiserver. Nobody can impersonate another
// user.
func testIdentity(t *testing.T, i *installation) {
	const namespace = "team-identity"
	u := i.newUser(namespace, "edit")
	wrongCA := kube.NewCA(t, t.TempDir(), "wrong-ca")
	frontProxy := i.FrontProxy
	client := i.CA.Client("intruder")
	wrong, named := wrongCA.Client("front-proxy-client"), i.FrontProxyCA.Client("another-client")
	spoofed := http.Header{"X-Remote-User": {u.name}, "X-Remote-Group": {"system:authenticated"}}
	masters := http.Header{"X-Remote-User": {"root"}, "X-Remote-Group": {"system:masters"}}
	_, accountConfig := i.ServiceAccount(namespace, "default")
	i.newRoleBinding(namespace, "view", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: "default", Namespace: namespace})

	for _, who := range []struct {
		name   string
		cert   *kube.Pair
		token  string
		header http.Header
		// code is the status code of a list of the Prefixes of the namespace. 0 means that there is no connection.
		code int
	}{
		{"nobody", nil, "", nil, http.StatusForbidden},
		{"headers without a certificate", nil, "", spoofed, http.StatusForbidden},
		{"headers of a master without a certificate", nil, "", masters, http.StatusForbidden},
		{"headers with a certificate of a wrong CA", &wrong, "", spoofed, http.StatusUnauthorized},
		{"headers with a certificate of a wrong name", &named, "", spoofed, http.StatusUnauthorized},
		{"headers of a master with a certificate of a wrong name", &named, "", masters, http.StatusUnauthorized},
		{"headers with the certificate of a user", &client, "", spoofed, http.StatusForbidden},
		{"a token that is none", nil, "none", nil, http.StatusUnauthorized},
		{"headers and a token that is none", nil, "none", spoofed, http.StatusUnauthorized},
		{"headers with the certificate of kube-apiserver", &frontProxy, "", spoofed, http.StatusOK},
		{"headers of another user with the certificate of kube-apiserver", &frontProxy, "", http.Header{"X-Remote-User": {"intruder"}}, http.StatusForbidden},
	} {
		tlsConfig := &tls.Config{InsecureSkipVerify: true}
		if who.cert != nil {
			pair, err := tls.X509KeyPair(who.cert.CertPEM, who.cert.KeyPEM)
			if err != nil {
				t.Fatal(err)
			}
			tlsConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		code, body := i.list(t, namespace, tlsConfig, who.token, who.header)
		if code != who.code {
			t.Errorf("%s: %d instead of %d: %s", who.name, code, who.code, body)
		}
	}
	// A valid token is accepted here, too.
	if code, body := i.list(t, namespace, &tls.Config{InsecureSkipVerify: true}, tokenOf(t, accountConfig.BearerTokenFile), nil); code != http.StatusOK {
		t.Errorf("the token of a service account: %d: %s", code, body)
	}
	// Through kube-apiserver, these headers have no effect.
	anonymous, err := versioned.NewForConfig(i.Anonymous())
	if err != nil {
		t.Fatal(err)
	}
	err = anonymous.IpamV1alpha1().RESTClient().Get().Namespace(namespace).Resource("prefixes").
		SetHeader("X-Remote-User", u.name).SetHeader("X-Remote-Group", "system:masters").Do(t.Context()).Error()
	if !apierrors.IsForbidden(err) {
		t.Errorf("headers through kube-apiserver: %v", err)
	}

	// A revoked permission is denied at once by kube-apiserver, and by the API server when its cache has expired.
	if err := i.Client.RbacV1().RoleBindings(namespace).Delete(t.Context(), u.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	pair, err := tls.X509KeyPair(frontProxy.CertPEM, frontProxy.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	i.Eventually("the user is denied", func() error {
		if _, err := u.client.Prefixes(namespace).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			return fmt.Errorf("kube-apiserver: %v", err)
		}
		if code, _ := i.list(t, namespace, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}, "", spoofed); code != http.StatusForbidden {
			return fmt.Errorf("the API server: %d", code)
		}
		return nil
	})
	t.Logf("a revoked binding was in force for %v", time.Since(start).Round(time.Millisecond))
}

func (i *installation) newRoleBinding(namespace, role string, subject rbacv1.Subject) {
	i.Helper()
	_, err := i.Client.RbacV1().RoleBindings(namespace).Create(i.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: role + "-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{subject},
	}, metav1.CreateOptions{})
	if err != nil {
		i.Fatal(err)
	}
}

// list lists the Prefixes of a namespace directly, without kube-apiserver.
func (i *installation) list(t *testing.T, namespace string, config *tls.Config, token string, header http.Header) (code int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
		fmt.Sprintf("https://%s/apis/ipam.ironcore.dev/v1alpha1/namespaces/%s/prefixes", i.Service.Address, namespace), nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, values := range header {
		request.Header[key] = values
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	var status metav1.Status
	_ = json.NewDecoder(response.Body).Decode(&status)
	return response.StatusCode, strings.TrimSpace(status.Message)
}

func tokenOf(t *testing.T, file string) string {
	t.Helper()
	token, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// testFlowSchema sends requests as the controllers do, and checks which FlowSchema the servers use for them. Both
// kube-apiserver and our server report it.
func testFlowSchema(t *testing.T, i *installation) {
	const name = "ipam-controller-manager"
	schema, err := i.Client.FlowcontrolV1().FlowSchemas().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.CopyConfig(i.Admin)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + product.Namespace + ":" + name,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + product.Namespace, "system:authenticated"},
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	// The servers learn of a FlowSchema by a watch.
	i.Eventually("the requests of the controllers have the FlowSchema "+name, func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/apis/ipam.ironcore.dev/v1alpha1/prefixes?limit=1", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		told := response.Header.Values("X-Kubernetes-Pf-Flowschema-Uid")
		if response.StatusCode != http.StatusOK || len(told) == 0 || slices.ContainsFunc(told, func(uid string) bool { return uid != string(schema.UID) }) {
			return fmt.Errorf("%s, FlowSchemas %q, want %q", response.Status, told, schema.UID)
		}
		return nil
	})
}
