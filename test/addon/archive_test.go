// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package addon

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/test/kube"
	"github.com/ironcore-dev/ipam-apiserver/test/product"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// installationPage is the page with the commands of an installation.
const installationPage = "docs/operating/installation.md"

// commands returns the commands of the block of the installation page that has a command.
func commands(t testing.TB, with string) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(kube.Root(), installationPage))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		var found []string
		for line := range strings.Lines(block[1]) {
			command, _, _ := strings.Cut(line, " #")
			found = append(found, strings.TrimSpace(command))
		}
		if slices.ContainsFunc(found, func(command string) bool { return strings.HasPrefix(command, with) }) {
			return found
		}
	}
	t.Fatalf("%s has no block with %q", installationPage, with)
	return nil
}

// shell runs a command in the root of the repository.
func shell(t testing.TB, command string, environment ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-o", "errexit", "-c", command)
	cmd.Dir, cmd.Env = kube.Root(), append(os.Environ(), environment...)
	cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(kube.Program("kubectl"))+string(filepath.ListSeparator)+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	t.Logf("$ %s\n%s", command, out)
}

// descriptor names content of an OCI archive.
type descriptor struct {
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations"`
	Platform    *struct {
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

// untar calls file for each file of an archive.
func untar(t testing.TB, r io.Reader, file func(header *tar.Header, content []byte)) {
	t.Helper()
	archive := tar.NewReader(r)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			file(header, content)
		}
	}
}

// unpackImage unpacks the image of this machine's architecture into a directory, as a container runtime does, and returns its
// name.
func unpackImage(t testing.TB, archive, root string) (name string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string][]byte{}
	untar(t, f, func(header *tar.Header, content []byte) { files[header.Name] = content })
	read := func(path string, into any) {
		t.Helper()
		if err := json.Unmarshal(files[path], into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	blob := func(d descriptor) string { return "blobs/" + strings.Replace(d.Digest, ":", "/", 1) }
	var index, platforms struct {
		Manifests []descriptor `json:"manifests"`
	}
	read("index.json", &index)
	read(blob(index.Manifests[0]), &platforms)
	for _, platform := range platforms.Manifests {
		if platform.Platform == nil || platform.Platform.Architecture != runtime.GOARCH {
			continue
		}
		var manifest struct {
			Layers []descriptor `json:"layers"`
		}
		read(blob(platform), &manifest)
		for _, layer := range manifest.Layers {
			plain, err := gzip.NewReader(bytes.NewReader(files[blob(layer)]))
			if err != nil {
				t.Fatal(err)
			}
			untar(t, plain, func(header *tar.Header, content []byte) {
				path := filepath.Join(root, filepath.FromSlash(header.Name))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, content, header.FileInfo().Mode()); err != nil {
					t.Fatal(err)
				}
			})
		}
		return index.Manifests[0].Annotations["io.containerd.image.name"]
	}
	t.Fatalf("%s has no image for %s", archive, runtime.GOARCH)
	return ""
}

// TestFromArchive follows the installation page: it makes the image archive, installs with its commands by kustomize and by
// Helm, and ends with a Prefix that is Ready. There are no nodes: what the pods would run is unpacked from the archive and
// runs in a root directory that has nothing else. The Service leads to loopback.
func TestFromArchive(t *testing.T) {
	const version = "v0.0.0-archive"
	making := commands(t, "make image")
	environment := []string{"VERSION=" + version, "PLATFORMS=linux/" + runtime.GOARCH, "CGO_ENABLED=0"}
	for _, command := range making {
		// There is no registry to push to, and no cluster yet.
		if strings.HasPrefix(command, "make ") {
			shell(t, command, environment...)
		}
	}
	root := t.TempDir()
	image := unpackImage(t, filepath.Join(kube.Root(), "bin/image.tar"), root)
	if _, tag, _ := strings.Cut(image, ":"); tag != version {
		t.Fatalf("the image is %s", image)
	}
	// The files of the cluster are in the root directory. A link there makes them have the same paths inside.
	temporary := filepath.Join(root, "tmp")
	if err := errors.Join(os.MkdirAll(temporary, 0o755), os.MkdirAll(filepath.Join(root, filepath.Dir(root)), 0o755), os.Symlink("/", filepath.Join(root, root))); err != nil {
		t.Fatal(err)
	}
	for name, apply := range map[string]func(*testing.T, *kube.Cluster, int){
		"kustomize": func(t *testing.T, c *kube.Cluster, port int) {
			for _, command := range making {
				if strings.HasPrefix(command, "kubectl apply") {
					shell(t, command, "KUBECONFIG="+c.AdminKubeconfig)
				}
			}
			kubectl := c.Kubectl(c.AdminKubeconfig)
			kubectl.Run("-n", product.Namespace, "patch", "service", "ipam-apiserver", "--type=merge", "-p",
				`{"spec":{"type":"ExternalName","externalName":"localhost","selector":null,"clusterIP":null,"clusterIPs":null}}`)
			kubectl.Run("patch", "apiservice", product.APIService, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"service":{"port":%d}}}`, port))
		},
		"Helm": func(t *testing.T, c *kube.Cluster, port int) {
			// helm install, with Helm's library.
			for _, command := range commands(t, "helm install") {
				switch {
				case strings.HasPrefix(command, "helm "):
					const want = "helm install ipam config/chart/ipam --namespace ipam-system --create-namespace --set image.tag=VERSION"
					if command != want {
						t.Fatalf("the command is %q, and the test runs %q", command, want)
					}
					newHelm(c, port).installWith(kube.Root(), map[string]any{"image": map[string]any{"tag": version}})
				case strings.HasPrefix(command, "kubectl label"):
					shell(t, command, "KUBECONFIG="+c.AdminKubeconfig)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", temporary)
			i := product.Install(t, product.Options{Programs: "/", Root: root, Members: 1, Servers: 2, Managers: 2, Apply: func(c *kube.Cluster, port int) { apply(t, c, port) }})
			for _, deployment := range []string{"ipam-apiserver", "ipam-controller-manager", "ipam-certificate-controller"} {
				d, err := i.Client.AppsV1().Deployments(product.Namespace).Get(t.Context(), deployment, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if got := d.Spec.Template.Spec.Containers[0].Image; got != image {
					t.Errorf("%s has the image %s, and the archive is %s", deployment, got, image)
				}
			}
			for _, process := range append(i.Managers, i.Servers[0].Process) {
				if at, err := os.Readlink(fmt.Sprintf("/proc/%d/root", process.Cmd.Process.Pid)); err != nil || at != root {
					t.Errorf("the root directory is %s: %v", at, err)
				}
			}
			for _, block := range []string{"make image", "kubectl apply -f config/samples/"} {
				for _, command := range commands(t, block) {
					if !strings.HasPrefix(command, "make ") && !strings.HasPrefix(command, "skopeo ") && !strings.Contains(command, "bin/install.yaml") {
						shell(t, command, "KUBECONFIG="+i.AdminKubeconfig)
					}
				}
			}
			i.Audited()
		})
	}
}
