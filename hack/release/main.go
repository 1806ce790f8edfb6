// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Command release writes what is published with a version into a directory: an archive of kubectl-ipam for each platform,
// the manifest for krew, the manifests of bin/install.yaml, what clusterctl installs, the chart, and checksums. The same
// source, version and Go make the same bytes.
package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// platforms are those that archives are made for.
var platforms = []platform{
	{"darwin", "amd64"}, {"darwin", "arm64"}, {"linux", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"},
}

type platform struct{ os, arch string }

// program returns the name of the program.
func (p platform) program() string {
	if p.os == "windows" {
		return "kubectl-ipam.exe"
	}
	return "kubectl-ipam"
}

// archive returns the name of the archive of a version.
func (p platform) archive(version string) string {
	ending := ".tar.gz"
	if p.os == "windows" {
		ending = ".zip"
	}
	return "kubectl-ipam_" + version + "_" + p.os + "_" + p.arch + ending
}

// file is a file in an archive.
type file struct {
	name string
	mode int64
	data []byte
}

// semantic matches the versions that krew accepts.
var semantic = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

func main() {
	version := flag.String("version", "", "version to release, such as v1.2.3")
	out := flag.String("out", "bin/release", "directory to write to")
	base := flag.String("url", "https://github.com/ironcore-dev/ipam-apiserver/releases/download", "URL below which the archives of each version are published")
	flag.Parse()
	if err := run(*version, *out, *base); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// run writes a release. The working directory is the root of the repository.
func run(version, out, base string) error {
	if !semantic.MatchString(version) {
		return fmt.Errorf("%q is not a version such as v1.2.3", version)
	}
	at, err := committed()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	license, err := os.ReadFile("LICENSE")
	if err != nil {
		return err
	}
	completion, err := os.ReadFile("cmd/kubectl-ipam/kubectl_complete-ipam")
	if err != nil {
		return err
	}
	sums := map[platform]string{}
	var list strings.Builder
	for _, p := range platforms {
		program, err := build(p, version)
		if err != nil {
			return err
		}
		files := []file{{p.program(), 0o755, program}, {"LICENSE", 0o644, license}}
		if p.os != "windows" {
			files = append(files, file{"kubectl_complete-ipam", 0o755, completion})
		}
		data, err := pack(p, files, at)
		if err != nil {
			return err
		}
		name := p.archive(version)
		if err := os.WriteFile(filepath.Join(out, name), data, 0o644); err != nil {
			return err
		}
		sums[p] = fmt.Sprintf("%x", sha256.Sum256(data))
		fmt.Fprintf(&list, "%s  %s\n", sums[p], name)
	}
	packed, err := chart(version, at)
	if err != nil {
		return err
	}
	all := []file{{name: "ipam.yaml", data: []byte(manifest(version, base, sums))}, {name: "ipam-" + version[1:] + ".tgz", data: packed}}
	// clusterctl reads ipam-components.yaml and metadata.yaml.
	for _, name := range []string{"install.yaml", "ipam-components.yaml", "metadata.yaml"} {
		data, err := os.ReadFile(filepath.Join("bin", name))
		if err != nil {
			return err
		}
		all = append(all, file{name: name, data: data})
	}
	for _, f := range all {
		if err := os.WriteFile(filepath.Join(out, f.name), f.data, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(f.data), f.name)
	}
	return os.WriteFile(filepath.Join(out, "checksums.txt"), []byte(list.String()), 0o644)
}

// unreleased matches the versions in the chart of the source.
var unreleased = regexp.MustCompile(`(?m)^(version|appVersion): v?0\.0\.0-unreleased$`)

// chart returns the chart with a version, packed as Helm does, which takes the times of the files instead.
func chart(version string, at time.Time) ([]byte, error) {
	var files []file
	const dir = "config/chart/ipam"
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		if name == "Chart.yaml" {
			if len(unreleased.FindAll(data, -1)) != 2 {
				return fmt.Errorf("%s does not have the versions to replace", path)
			}
			data = unreleased.ReplaceAllFunc(data, func(line []byte) []byte {
				if bytes.HasPrefix(line, []byte("version")) {
					return []byte("version: " + version[1:])
				}
				return []byte("appVersion: " + version)
			})
		}
		files = append(files, file{"ipam/" + filepath.ToSlash(name), 0o644, data})
		return err
	})
	if err != nil {
		return nil, err
	}
	return pack(platform{os: "linux"}, files, at)
}

// committed returns the time of the last commit, which is that of all files.
func committed() (time.Time, error) {
	data, err := exec.Command("git", "log", "-1", "--format=%ct").Output()
	if err != nil {
		return time.Time{}, fmt.Errorf("git log: %w", err)
	}
	seconds, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return time.Unix(seconds, 0).UTC(), err
}

// build returns the program for a platform.
func build(p platform, version string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, p.program())
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X github.com/ironcore-dev/ipam-apiserver/pkg/version.version="+version, "-o", program, "./cmd/kubectl-ipam")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("build for %s/%s: %w", p.os, p.arch, err)
	}
	return os.ReadFile(program)
}

// pack returns an archive of files for a platform.
func pack(p platform, files []file, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	if p.os == "windows" {
		w := zip.NewWriter(&out)
		for _, f := range files {
			header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: at}
			header.SetMode(os.FileMode(f.mode))
			in, err := w.CreateHeader(header)
			if err != nil {
				return nil, err
			}
			if _, err := in.Write(f.data); err != nil {
				return nil, err
			}
		}
		err := w.Close()
		return out.Bytes(), err
	}
	compressed, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(compressed)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: at, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := io.Copy(w, bytes.NewReader(f.data)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	err = compressed.Close()
	return out.Bytes(), err
}

// manifest returns the manifest for krew, the package manager of kubectl plugins.
func manifest(version, base string, sums map[platform]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: ipam
spec:
  version: %s
  homepage: https://github.com/ironcore-dev/ipam-apiserver
  shortDescription: See IP address space and act on it
  description: |
    Shows the Prefixes of the API group ipam.ironcore.dev as the address space
    that they are: as a tree, as a map, and in the browser. Says who has an
    address and why a request waits. Requests, reserves and releases space,
    imports and exports plans, and checks that all is consistent.
  caveats: |
    The API group ipam.ironcore.dev must be served in the cluster, see
    https://github.com/ironcore-dev/ipam-apiserver.
  platforms:
`, version)
	for _, p := range platforms {
		fmt.Fprintf(&b, `  - selector:
      matchLabels:
        os: %s
        arch: %s
    uri: %s/%s/%s
    sha256: %s
    bin: %s
`, p.os, p.arch, base, version, p.archive(version), sums[p], p.program())
	}
	return b.String()
}
