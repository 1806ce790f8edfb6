// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/spdx/tools-golang/json"
)

// build builds the programs as hack/image.sh does, but for this machine only, and returns the image of them.
func build(t *testing.T) image {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, programs := range [][]string{{".", "./cmd/ipam-apiserver", "./cmd/ipam-controller-manager"}, {"clusterapi", "./cmd/ipam-cluster-api"}} {
		cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", dir + "/",
			"-ldflags", "-X github.com/ironcore-dev/ipam-apiserver/pkg/version.version=v9.8.7"}, programs[1:]...)...)
		cmd.Dir, cmd.Env = filepath.Join(root, programs[0]), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	license, err := os.ReadFile(filepath.Join(root, "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	return image{name: "example.org/ipam", version: "v9.8.7", revision: "abc", created: time.Unix(1e9, 0).UTC(), license: string(license),
		platforms: []platform{{"linux", runtime.GOARCH, dir}}}
}

// unpack unpacks a tar archive into a directory.
func unpack(t *testing.T, r io.Reader, dir string) {
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
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(header.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, header.FileInfo().Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

// in returns a command that runs in a root directory, as the user of the image. Somebody who is not root runs it in a user
// namespace.
func in(t *testing.T, root string, command ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Path, cmd.Dir, cmd.Env = command[0], "/", []string{}
	const id = 65532
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: id, Gid: id}}
	if os.Getuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: id, HostID: os.Getgid(), Size: 1}}}
	}
	return cmd
}

// TestImage writes the image twice, unpacks it as a container runtime does, and runs its programs in a root directory that
// has nothing else.
func TestImage(t *testing.T) {
	i := build(t)
	var first, second bytes.Buffer
	if err := errors.Join(i.write(&first), i.write(&second)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same programs give different archives")
	}

	archive := t.TempDir()
	unpack(t, &first, archive)
	path, err := layout.FromPath(archive)
	if err != nil {
		t.Fatal(err)
	}
	index, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("%v: %+v", err, manifest)
	}
	annotations := manifest.Manifests[0].Annotations
	if annotations["org.opencontainers.image.ref.name"] != "v9.8.7" || annotations["io.containerd.image.name"] != "example.org/ipam:v9.8.7" {
		t.Errorf("annotations %v", annotations)
	}
	platforms, err := index.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	images, err := platforms.IndexManifest()
	if err != nil || len(images.Manifests) != 1 || !images.Manifests[0].Platform.Equals(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}) {
		t.Fatalf("%v: %+v", err, images)
	}
	img, err := platforms.Image(images.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || config.Config.Labels["org.opencontainers.image.version"] != "v9.8.7" ||
		config.Config.Labels["org.opencontainers.image.created"] != "2001-09-09T01:46:40Z" || !config.Created.Equal(i.created) {
		t.Errorf("config %+v, created %s", config.Config, config.Created)
	}

	// The user of the programs must be able to reach the directory.
	root, err := os.MkdirTemp("", "image-root")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	content := mutate.Extract(img)
	unpack(t, content, root)
	if err := content.Close(); err != nil {
		t.Fatal(err)
	}
	var files []string
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		files = append(files, entry.Name())
	}
	if want := []string{"LICENSE", "ipam-apiserver", "ipam-cluster-api", "ipam-controller-manager", "sbom.spdx.json"}; !slices.Equal(files, want) {
		t.Errorf("the image has %v, not %v", files, want)
	}
	for _, program := range files[1:4] {
		out, err := in(t, root, "/"+program, "--version").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "v9.8.7") {
			t.Errorf("%s --version: %v: %s", program, err, out)
		}
	}
	checkSBOM(t, filepath.Join(root, sbomPath))
}

// checkSBOM reads the software bill of materials: it has both programs, the toolchain, and modules that are linked into them.
func checkSBOM(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	document, err := json.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, p := range document.Packages {
		names[p.PackageName] = p.PackageVersion
	}
	for name, version := range map[string]string{"ipam-apiserver": "v9.8.7", "ipam-controller-manager": "v9.8.7",
		"stdlib": runtime.Version(), "k8s.io/apiserver": "v0.", "go.etcd.io/etcd/client/v3": "v3."} {
		if !strings.HasPrefix(names[name], version) || names[name] == "" {
			t.Errorf("%s has version %q, not %q", name, names[name], version)
		}
	}
}

// TestRefused has directories without programs, and with something else.
func TestRefused(t *testing.T) {
	empty, text := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(text, "program"), []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{empty, text, filepath.Join(empty, "missing")} {
		i := image{version: "v1", platforms: []platform{{"linux", "amd64", dir}}}
		if err := i.write(io.Discard); err == nil || !strings.Contains(err.Error(), "linux/amd64") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
