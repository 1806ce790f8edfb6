// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
)

var update = flag.Bool("update", false, "write what the commands print into testdata/roles.txt")

// rolesFile has each command of kubectl ipam, and what it prints to users with the roles admin, edit and view, and to one
// without a role.
const rolesFile = "testdata/roles.txt"

// roles are the users that run each command, in this order: those who may do less come first, so that what is refused to
// them is still there.
var roles = []string{"nobody", "view", "edit", "admin"}

// testPlugin runs each command of testdata/roles.txt as each user, and compares what it prints. A line that begins with "$ "
// is a command, in which ROLE stands for the role. A line that begins with "# " names the users to whom it prints what
// follows: its standard output, its standard error with "! " before each line, and its exit code if that is not 0.
func testPlugin(t *testing.T, i *installation) {
	const namespace = "team-cli"
	kubeconfigs := map[string]string{}
	kubeconfigs["nobody"], _ = i.User(namespace + "-nobody")
	for _, role := range roles[1:] {
		_, kubeconfigs[role], _ = i.NewUser(namespace, role)
	}
	for _, file := range kubeconfigs {
		config, err := clientcmd.LoadFromFile(file)
		if err == nil {
			config.Contexts[config.CurrentContext].Namespace = namespace
			err = clientcmd.WriteToFile(*config, file)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	addressOfRoles(t, i, namespace)
	data, err := os.ReadFile(rolesFile)
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	run := func(role, command string) string {
		ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
		defer cancel()
		args := strings.Fields(strings.ReplaceAll(command, "ROLE", role))
		var out, errOut bytes.Buffer
		var stdout io.Writer = &out
		switch {
		case args[0] == "ui":
			stdout = &visit{out: &out, end: cancel}
		case slices.Contains(args, "--watch"):
			stdout = &once{out: &out, end: cancel}
		}
		o := cli.Options{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: stdout, ErrOut: &errOut},
			Now: func() time.Time { return time.Now().Add(10*24*time.Hour + 12*time.Hour) }}
		flags := []string{"--kubeconfig", kubeconfigs[role], "--cache-dir", cache}
		if args[0] == "__complete" {
			flags = append([]string{"__complete"}, flags...)
			args = append(args[1:], "")
		}
		began := time.Now()
		code := o.Run(ctx, append(flags, args...))
		if took := time.Since(began); took > harness.Patience/2 {
			t.Errorf("%s: %s takes %v", role, command, took)
		}
		var b strings.Builder
		for line := range strings.Lines(out.String()) {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
		for line := range strings.Lines(errOut.String()) {
			fmt.Fprintf(&b, "! %s", line)
		}
		if code != 0 {
			fmt.Fprintf(&b, "exit code %d\n", code)
		}
		text := b.String()
		for _, u := range unstable {
			text = u.pattern.ReplaceAllString(text, u.by)
		}
		for _, name := range append(strings.Fields(command), namespace+"-ROLE") {
			text = strings.ReplaceAll(text, strings.ReplaceAll(name, "ROLE", role), name)
		}
		return text
	}

	var got strings.Builder
	ran := map[string]bool{}
	began, runs := time.Now(), 0
	for line := range strings.Lines(string(data)) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		if !ok {
			continue
		}
		ran[strings.Fields(command)[0]] = true
		fmt.Fprintf(&got, "$ %s\n", command)
		printed := map[string]string{}
		for _, role := range roles {
			printed[role] = run(role, command)
			runs++
		}
		for at, role := range slices.Backward(roles) {
			var same []string
			for _, other := range slices.Backward(roles) {
				if printed[other] == printed[role] {
					same = append(same, other)
				}
			}
			if slices.Contains(roles[at+1:], same[0]) {
				continue
			}
			fmt.Fprintf(&got, "# %s\n%s", strings.Join(same, ", "), printed[role])
		}
		got.WriteString("\n")
	}
	t.Logf("%d runs took %v", runs, time.Since(began).Round(time.Millisecond))
	for _, cmd := range cli.NewCommand(genericiooptions.NewTestIOStreamsDiscard()).Commands() {
		if !ran[cmd.Name()] && cmd.Name() != "help" && cmd.Name() != "completion" {
			t.Errorf("%s has no command %s", rolesFile, cmd.Name())
		}
	}
	if !ran[cobra.ShellCompRequestCmd] {
		t.Errorf("%s has no completion", rolesFile)
	}
	if *update {
		if err := os.WriteFile(rolesFile, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(string(data), "\n")
	for n := range max(len(gotLines), len(wantLines)) {
		if n >= len(gotLines) || n >= len(wantLines) || gotLines[n] != wantLines[n] {
			t.Fatalf("%s:%d\ngot\n%s\nRun 'go test ./test/cluster -run \"TestCluster/kubectl ipam\" -update' if that is right.", rolesFile, n+1,
				strings.Join(gotLines[min(n, len(gotLines)):min(len(gotLines), n+20)], "\n"))
		}
	}
}

// unstable are the parts of the output that differ from run to run, and what stands for them.
var unstable = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uid>"},
	{regexp.MustCompile(`\b(\w+)-[0-9a-f]{16}\b`), "$1-<sum>"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+/[\w-]+/`), "<page>"},
}

// once ends a command with --watch when it has printed something.
type once struct {
	out *bytes.Buffer
	end func()
}

func (w *once) Write(p []byte) (int, error) {
	defer w.end()
	return w.out.Write(p)
}

// visit asks the page of the command ui, once that has printed where it is, for what its tree shows and what is wrong.
type visit struct {
	out *bytes.Buffer
	end func()
}

func (v *visit) Write(p []byte) (int, error) {
	page := strings.TrimSpace(string(p))
	n, err := v.out.Write(p)
	go func() {
		defer v.end()
		_, err := harness.Wait(func() error {
			answer, err := get(page + "api/tree?count=100&open=ns:team-cli")
			if err == nil && !strings.Contains(answer, `"name":"pool"`) {
				err = fmt.Errorf("the page shows %s", answer)
			}
			return err
		})
		if err != nil {
			fmt.Fprintln(v.out, err)
		}
	}()
	return n, err
}

// get returns the body of an answer.
func get(url string) (string, error) {
	response, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// addressOfRoles makes the address space for testPlugin.
func addressOfRoles(t *testing.T, i *installation, namespace string) {
	t.Helper()
	n := harness.In(t, i.IPAM.IpamV1alpha1(), namespace)
	policy := func(name string, change func(*v1alpha1.PrefixPolicySpec)) {
		p := harness.Policy(name, nil, "pool", name)
		change(&p.Spec)
		n.CreatePolicy(p)
	}
	policy("pool", func(spec *v1alpha1.PrefixPolicySpec) {
		spec.Reserved = []v1alpha1.PrefixReservation{{CIDR: "10.0.255.0/24", Reason: "routers"}}
	})
	policy("shut", func(spec *v1alpha1.PrefixPolicySpec) {
		spec.Closed, spec.SharedWith = true, &v1alpha1.PrefixSharing{Namespaces: []string{"team-x"}}
	})
	policy("warm", func(spec *v1alpha1.PrefixPolicySpec) { spec.CoolDown = &metav1.Duration{Duration: 24 * time.Hour} })
	for name, prefix := range map[string]string{"pool": "10.0.0.0/16", "shut": "10.1.0.0/16", "warm": "10.2.0.0/24"} {
		n.Create(harness.Root(name, prefix, harness.Labelled("pool", name)))
		n.Allocated(name)
	}
	n.Create(harness.Child("net", "pool", harness.Exactly("10.0.0.0/24")), harness.Child("gone", "warm", harness.Exactly("10.2.0.0/28")))
	for number, role := range roles {
		n.Create(harness.Child("spare-"+role, "pool", harness.Exactly(fmt.Sprintf("10.0.%d.0/24", number+1))))
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
	n.Allocated("net")
	host := harness.Child("host", "net", harness.Exactly("10.0.0.1/32"))
	host.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Secret", Name: secret.Name, UID: secret.UID}}
	n.Create(host)
	n.AllAllocated()
	n.Delete("gone")
	n.Create(harness.Child("too-large", "pool", harness.Length(9)))
	n.Eventually("space cools down, and a Prefix cannot be allocated", func() error {
		usage, late := n.Get("warm").Status.Usage, n.Get("too-large")
		return harness.Unless(usage != nil && usage.Cooling == "16" && len(late.Status.Conditions) > 0, "%+v %s", usage, harness.Describe(late))
	})
	n.AtRest()
	n.Eventually("there are events", func() error {
		for _, name := range []string{"net", "too-large"} {
			events, err := i.Client.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name})
			if err != nil || len(events.Items) == 0 {
				return fmt.Errorf("none of %s: %v", name, err)
			}
		}
		return nil
	})
}
