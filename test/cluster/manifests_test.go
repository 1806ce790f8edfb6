// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// overlays are the directories that users apply.
var overlays = []string{"config/default", "config/overlays/cert-manager", "config/overlays/external-etcd"}

// manifests are the objects of an overlay.
type manifests struct {
	objects []unstructured.Unstructured
	// pods contains the pod templates, by the name of the workload.
	pods map[string]corev1.PodTemplateSpec
}

// rendered caches the rendered overlays.
var rendered = map[string]manifests{}

// render renders an overlay as kubectl apply -k does.
func render(t *testing.T, dir string) manifests {
	t.Helper()
	if m, ok := rendered[dir]; ok {
		return m
	}
	cmd := exec.Command(kube.Program("kubectl"), "kustomize", dir)
	cmd.Dir = kube.Root()
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		t.Fatalf("%s: %v", dir, err)
	}
	m := manifests{pods: map[string]corev1.PodTemplateSpec{}}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(out)), 4096)
	for {
		var o unstructured.Unstructured
		if err := decoder.Decode(&o.Object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		m.objects = append(m.objects, o)
		switch o.GetKind() {
		case "Deployment":
			m.pods[o.GetName()] = convert[appsv1.Deployment](t, o).Spec.Template
		case "StatefulSet":
			m.pods[o.GetName()] = convert[appsv1.StatefulSet](t, o).Spec.Template
		}
	}
	if len(m.pods) < 2 {
		t.Fatalf("%s has %d kinds of pods", dir, len(m.pods))
	}
	rendered[dir] = m
	return m
}

// convert converts an object to a type.
func convert[T any](t *testing.T, o unstructured.Unstructured) *T {
	t.Helper()
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, typed, true); err != nil {
		t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
	return typed
}

// ofKind returns the objects of a kind as a type.
func ofKind[T any](t *testing.T, m manifests, kind string) []*T {
	t.Helper()
	var typed []*T
	for _, o := range m.objects {
		if o.GetKind() == kind {
			typed = append(typed, convert[T](t, o))
		}
	}
	return typed
}

// TestImages shows that every image in the manifests has a version, and that all our images have the same.
func TestImages(t *testing.T) {
	ours := map[string]bool{}
	for _, dir := range overlays {
		for name, pod := range render(t, dir).pods {
			for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
				image, tag, _ := strings.Cut(container.Image, ":")
				if !strings.Contains(image, "/") || !strings.HasPrefix(tag, "v") {
					t.Errorf("%s: the image of %s is %q", dir, name, container.Image)
				}
				if strings.HasSuffix(image, "/ipam-apiserver") {
					ours[container.Image] = true
				}
			}
		}
	}
	if len(ours) != 1 {
		t.Errorf("our images are %v", ours)
	}
}

// TestAuthorities shows that the CA of etcd signs only the certificates of etcd and of its client, because every
// client certificate of it gives write access to etcd.
func TestAuthorities(t *testing.T) {
	issued := map[string][]string{}
	for _, o := range render(t, "config/overlays/cert-manager").objects {
		if o.GetKind() == "Certificate" {
			issuer, _, _ := unstructured.NestedString(o.Object, "spec", "issuerRef", "name")
			issued[issuer] = append(issued[issuer], o.GetName())
			// With another key, certificates of a renewed CA and those from before would not be valid together.
			ca, _, _ := unstructured.NestedBool(o.Object, "spec", "isCA")
			rotation, _, _ := unstructured.NestedString(o.Object, "spec", "privateKey", "rotationPolicy")
			if want := map[bool]string{true: "Never", false: "Always"}[ca]; rotation != want {
				t.Errorf("%s: the rotation policy is %q, not %q", o.GetName(), rotation, want)
			}
		}
	}
	for issuer, names := range issued {
		slices.Sort(names)
		etcd := slices.ContainsFunc(names, func(name string) bool { return strings.Contains(name, "etcd") })
		if want := []string{"ipam-etcd-client-tls", "ipam-etcd-tls"}; etcd && !slices.Equal(names, want) {
			t.Errorf("%s issues %q, want %q", issuer, names, want)
		}
	}
	if len(issued) != 3 {
		t.Errorf("issuers and what they issue: %v", issued)
	}
}

// host is a host in the network: a pod, or another host if namespace is nil.
type host struct {
	name              string
	labels, namespace labels.Set
}

// policies evaluates NetworkPolicies as the network of a cluster does.
type policies []*networkingv1.NetworkPolicy

// allow reports whether a host may connect to a port of another one.
func (p policies) allow(from, to host, port int32, protocol corev1.Protocol) bool {
	return p.direction(networkingv1.PolicyTypeEgress, from, to, port, protocol) && p.direction(networkingv1.PolicyTypeIngress, to, from, port, protocol)
}

// direction reports whether the policies of a host allow its connections to the other one (egress), or from it
// (ingress).
func (p policies) direction(direction networkingv1.PolicyType, of, other host, port int32, protocol corev1.Protocol) bool {
	isolated, allowed := false, false
	for _, policy := range p {
		if of.namespace["kubernetes.io/metadata.name"] != policy.Namespace || !matches(&policy.Spec.PodSelector, of.labels) || !slices.Contains(policy.Spec.PolicyTypes, direction) {
			continue
		}
		isolated = true
		if direction == networkingv1.PolicyTypeEgress {
			for _, rule := range policy.Spec.Egress {
				allowed = allowed || onPort(rule.Ports, port, protocol) && among(rule.To, policy.Namespace, other)
			}
			continue
		}
		for _, rule := range policy.Spec.Ingress {
			allowed = allowed || onPort(rule.Ports, port, protocol) && among(rule.From, policy.Namespace, other)
		}
	}
	return allowed || !isolated
}

func matches(selector *metav1.LabelSelector, set labels.Set) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(set)
}

func onPort(ports []networkingv1.NetworkPolicyPort, port int32, protocol corev1.Protocol) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		its := corev1.ProtocolTCP
		if p.Protocol != nil {
			its = *p.Protocol
		}
		return its == protocol && p.Port.IntVal == port
	})
}

func among(peers []networkingv1.NetworkPolicyPeer, namespace string, other host) bool {
	return len(peers) == 0 || slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool {
		switch {
		case other.namespace == nil:
			return false
		case peer.NamespaceSelector == nil && other.namespace["kubernetes.io/metadata.name"] != namespace:
			return false
		case peer.NamespaceSelector != nil && !matches(peer.NamespaceSelector, other.namespace):
			return false
		}
		return peer.PodSelector == nil || matches(peer.PodSelector, other.labels)
	})
}

// TestNetworkPolicies compares the allowed connections with the required ones.
func TestNetworkPolicies(t *testing.T) {
	for _, dir := range overlays {
		m := render(t, dir)
		p := policies(ofKind[networkingv1.NetworkPolicy](t, m, "NetworkPolicy"))
		own := labels.Set{"kubernetes.io/metadata.name": product.Namespace}
		hosts := []host{
			{"outside", nil, nil},
			{"tenant", labels.Set{"app.kubernetes.io/name": "ipam-apiserver"}, labels.Set{"kubernetes.io/metadata.name": "tenant"}},
			{"prometheus", nil, labels.Set{"kubernetes.io/metadata.name": "monitoring", "metrics": "enabled"}},
			{"stray", labels.Set{"app": "stray"}, own},
			{"backup", labels.Set{"ipam.ironcore.dev/etcd-client": "true"}, own},
		}
		for name, pod := range m.pods {
			hosts = append(hosts, host{name, pod.Labels, own})
		}
		const others = "outside tenant prometheus"
		// The allowed connections, by port and host.
		can := map[string]bool{}
		add := func(from, to string, ports ...string) {
			for _, f := range strings.Fields(from) {
				for _, t := range strings.Fields(to) {
					for _, port := range ports {
						can[f+" to "+t+" "+port] = true
					}
				}
			}
		}
		// The addresses of kube-apiserver and DNS are not known, so their ports are open for outgoing connections.
		add("ipam-apiserver", others, "TCP 443", "TCP 6443", "TCP 53", "UDP 53")
		add("ipam-controller-manager", others, "TCP 443", "TCP 6443", "TCP 53", "UDP 53")
		add(others+" ipam-apiserver ipam-controller-manager", "ipam-apiserver", "TCP 6443")
		add("prometheus", "ipam-apiserver ipam-controller-manager", "TCP 2381", "TCP 8080")
		if dir == "config/overlays/external-etcd" {
			add("ipam-apiserver", others, "TCP 2379")
		} else {
			add("ipam-apiserver backup ipam-etcd", "ipam-etcd", "TCP 2379")
			add("ipam-etcd", "ipam-etcd", "TCP 2380")
			add("ipam-etcd backup", others, "TCP 53", "UDP 53")
			add("prometheus", "ipam-etcd", "TCP 2381", "TCP 8080")
		}
		if dir != "config/overlays/cert-manager" {
			add("ipam-certificate-controller", others, "TCP 443", "TCP 6443")
			add("ipam-certificate-controller", "ipam-apiserver", "TCP 6443")
			add("prometheus", "ipam-certificate-controller", "TCP 2381", "TCP 8080")
		}
		for _, from := range hosts {
			for _, to := range hosts {
				if from.namespace["kubernetes.io/metadata.name"] != product.Namespace && to.namespace["kubernetes.io/metadata.name"] != product.Namespace {
					continue
				}
				for _, on := range []struct {
					protocol corev1.Protocol
					port     int32
				}{
					{corev1.ProtocolTCP, 53}, {corev1.ProtocolUDP, 53}, {corev1.ProtocolTCP, 443}, {corev1.ProtocolTCP, 6443}, {corev1.ProtocolUDP, 6443},
					{corev1.ProtocolTCP, 2379}, {corev1.ProtocolTCP, 2380}, {corev1.ProtocolTCP, 2381}, {corev1.ProtocolTCP, 2382}, {corev1.ProtocolTCP, 8080}, {corev1.ProtocolTCP, 9443},
				} {
					what := fmt.Sprintf("%s to %s %s %d", from.name, to.name, on.protocol, on.port)
					want := can[what]
					if from.name == "ipam-apiserver" && (to.name == "tenant" || to.name == "prometheus") {
						// Webhooks can use any port.
						want = true
					}
					if got := p.allow(from, to, on.port, on.protocol); got != want {
						t.Errorf("%s: %s: allowed is %t, want %t", dir, what, got, want)
					}
				}
			}
		}
	}
}
