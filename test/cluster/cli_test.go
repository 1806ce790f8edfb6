// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// testPlugin runs kubectl ipam as users with the roles edit and view, and as one who has none.
func testPlugin(t *testing.T, i *installation) {
	const namespace = "team-cli"
	_, edit, config := i.NewUser(namespace, "edit")
	_, viewer, _ := i.NewUser(namespace, "view")
	nobody, _ := i.User("team-cli-nobody")
	ipam := func(kubeconfig string, code cli.ExitCode, args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errOut bytes.Buffer
		o := cli.Options{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errOut}}
		args = append([]string{"--kubeconfig", kubeconfig, "--cache-dir", t.TempDir()}, args...)
		if got := o.Run(t.Context(), args); got != code {
			t.Errorf("%s: exit code %d instead of %d: %s", strings.Join(args[4:], " "), got, code, errOut.String())
		}
		return out.String(), errOut.String()
	}
	prefixes := harness.In(t, versioned.NewForConfigOrDie(config).IpamV1alpha1(), namespace)
	prefixes.Create(harness.Root("pool", "10.0.0.0/16", harness.Labelled("pool", "a")))
	prefixes.Allocated("pool")

	out, _ := ipam(edit, cli.ExitDone, "-n", namespace, "claim", "--from", "pool", "--length", "24", "--name", "net", "--timeout", "60s", "-q")
	if out != "10.0.0.0/24\n" {
		t.Errorf("claim: %q", out)
	}
	// Who may read a Secret differs, and with it what is known about who owns a Prefix.
	app, err := i.Client.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "app"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := i.Client.CoreV1().Secrets(namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "part",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: app.Name, UID: app.UID}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	host := harness.Child("host", "net", harness.Length(32))
	host.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Secret", Name: secret.Name, UID: secret.UID}}
	prefixes.Create(host)
	prefixes.Allocated("host")
	out, _ = ipam(edit, cli.ExitDone, "-n", namespace, "who", "10.0.0.0")
	contains(t, out, "pool", "└─ net", "└─ host", "ConfigMap/app > Secret/part")
	out, errOut := ipam(viewer, cli.ExitForbidden, "-n", namespace, "who", "10.0.0.0")
	contains(t, out, "└─ host", " Secret/part")
	contains(t, errOut, "You may not read secrets part")

	for _, kubeconfig := range []string{edit, viewer} {
		out, _ = ipam(kubeconfig, cli.ExitDone, "-n", namespace, "tree")
		contains(t, out, "pool", "└─ net", "   └─ host")
		out, errOut = ipam(kubeconfig, cli.ExitForbidden, "-n", namespace, "tree", "-A")
		contains(t, out, "pool", "└─ net")
		contains(t, errOut, "You may not read all namespaces")
		ipam(kubeconfig, cli.ExitDone, "-n", namespace, "free", "net")
		ipam(kubeconfig, cli.ExitDone, "-n", namespace, "why", "net")
		ipam(kubeconfig, cli.ExitDone, "-n", namespace, "map", "net")
		ipam(kubeconfig, cli.ExitDone, "-n", namespace, "check")
		ipam(kubeconfig, cli.ExitDone, "-n", namespace, "export")
		ipam(kubeconfig, cli.ExitForbidden, "-n", namespace, "reserve", "pool", "10.0.255.0/24")
	}
	i.Eventually("show has the events", func() error {
		out, _ := ipam(viewer, cli.ExitDone, "-n", namespace, "show", "net")
		return harness.Unless(strings.Contains(out, "Normal Allocated"), "%s", out)
	})
	ipam(viewer, cli.ExitForbidden, "-n", namespace, "claim", "--from", "pool", "--length", "24")
	ipam(viewer, cli.ExitForbidden, "-n", namespace, "release", "host")
	for _, args := range []string{"tree", "tree -A", "who 10.0.0.0", "why net", "show net", "free net", "map net", "check", "export -o yaml", "reserve pool edges", "release net", "claim --from pool --length 24"} {
		if out, _ := ipam(nobody, cli.ExitForbidden, append([]string{"-n", namespace}, strings.Fields(args)...)...); out != "" {
			t.Errorf("nobody sees %s: %s", args, out)
		}
	}
	out, _ = ipam(edit, cli.ExitDone, "-n", namespace, "release", "host", "net", "pool", "--timeout", "60s")
	contains(t, out, "host", "net", "pool")
}
