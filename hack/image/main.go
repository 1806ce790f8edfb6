// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Command image writes the container image of the programs as an OCI archive, without a container runtime. The image has
// one platform for each --platform. It contains the programs, a software bill of materials, the license, and nothing else.
// The same programs always give the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user is the numeric user and group of the programs. Kubernetes can only verify that a user is not root if it is a number.
const user = "65532:65532"

// The files of the image beside the programs.
const (
	sbomPath    = "sbom.spdx.json"
	licensePath = "LICENSE"
)

// image is what the image is made of.
type image struct {
	// name is the name in a registry, without the tag.
	name string
	// version is the tag. revision is the commit, or empty.
	version, revision string
	created           time.Time
	license           string
	platforms         []platform
}

// platform is an operating system and architecture, such as linux/amd64, and the directory with the programs for it.
type platform struct{ os, arch, dir string }

func main() {
	var i image
	var seconds int64
	var out, sbom, license string
	flag.StringVar(&i.name, "name", "ghcr.io/ironcore-dev/ipam-apiserver", "name of the image in a registry, without a tag")
	flag.StringVar(&i.version, "version", "", "tag of the image")
	flag.StringVar(&i.revision, "revision", "", "commit that the programs are built from")
	flag.Int64Var(&seconds, "source-date-epoch", 0, "time of the image and its files, in seconds since 1970")
	flag.StringVar(&license, "license", "", "file with the license")
	flag.StringVar(&out, "out", "", "archive to write")
	flag.StringVar(&sbom, "sbom", "", "file to write the software bill of materials of the first platform to, if any")
	flag.Func("platform", "OS/ARCH=DIR with the programs of a platform; may be repeated", func(s string) error {
		target, dir, ok := strings.Cut(s, "=")
		system, arch, okToo := strings.Cut(target, "/")
		if !ok || !okToo {
			return fmt.Errorf("not OS/ARCH=DIR")
		}
		i.platforms = append(i.platforms, platform{system, arch, dir})
		return nil
	})
	flag.Parse()
	i.created = time.Unix(seconds, 0).UTC()
	if err := run(i, license, out, sbom); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(i image, license, out, sbom string) error {
	if i.version == "" || license == "" || out == "" || len(i.platforms) == 0 {
		return fmt.Errorf("--version, --license, --out and --platform are required")
	}
	text, err := os.ReadFile(license)
	if err != nil {
		return err
	}
	i.license = string(text)
	if sbom != "" {
		document, err := i.sbom(i.platforms[0])
		if err != nil {
			return err
		}
		if err := os.WriteFile(sbom, document, 0o644); err != nil {
			return err
		}
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	if err := i.write(file); err != nil {
		return cmp.Or(file.Close(), err)
	}
	return file.Close()
}

// write writes the archive: an OCI image layout, packed with tar.
func (i image) write(w io.Writer) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range i.platforms {
		img, err := i.forPlatform(p)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", p.os, p.arch, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			MediaType: types.OCIManifestSchema1, Platform: &v1.Platform{OS: p.os, Architecture: p.arch}}})
	}
	dir, err := os.MkdirTemp("", "image")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	// These are the names under which skopeo and containerd find the image.
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": i.version,
		"io.containerd.image.name":          i.name + ":" + i.version,
	})); err != nil {
		return err
	}
	return i.pack(w, dir)
}

// forPlatform returns the image of one platform.
func (i image) forPlatform(p platform) (v1.Image, error) {
	document, err := i.sbom(p)
	if err != nil {
		return nil, err
	}
	programs, err := programsIn(p.dir)
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	archive := tar.NewWriter(&content)
	add := func(name string, data []byte, mode int64) error {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: mode, ModTime: i.created}); err != nil {
			return err
		}
		_, err := archive.Write(data)
		return err
	}
	if err := cmp.Or(add(licensePath, []byte(i.license), 0o444), add(sbomPath, document, 0o444)); err != nil {
		return nil, err
	}
	for _, program := range programs {
		data, err := os.ReadFile(program)
		if err != nil {
			return nil, err
		}
		if err := add(filepath.Base(program), data, 0o555); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1), mutate.Addendum{
		Layer: layer, History: v1.History{Created: v1.Time{Time: i.created}, CreatedBy: "hack/image"}})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = p.os, p.arch, v1.Time{Time: i.created}
	config.Config.User = user
	config.Config.Labels = i.labels()
	return mutate.ConfigFile(img, config)
}

// labels returns the labels of the image. Their keys are those of the OCI image specification.
func (i image) labels() map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       "ipam-apiserver",
		"org.opencontainers.image.description": "IP address management for Kubernetes",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.source":      "https://github.com/ironcore-dev/ipam-apiserver",
		"org.opencontainers.image.version":     i.version,
		"org.opencontainers.image.created":     i.created.Format(time.RFC3339),
	}
	if i.revision != "" {
		labels["org.opencontainers.image.revision"] = i.revision
	}
	return labels
}

// programsIn returns the paths of the programs in a directory, sorted.
func programsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var programs []string
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			programs = append(programs, filepath.Join(dir, entry.Name()))
		}
	}
	if len(programs) == 0 {
		return nil, fmt.Errorf("no programs in %s", dir)
	}
	return programs, nil
}

// pack writes the files of a directory as a tar archive.
func (i image) pack(w io.Writer, dir string) error {
	var names []string
	if err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			names = append(names, path)
		}
		return err
	}); err != nil {
		return err
	}
	slices.Sort(names)
	archive := tar.NewWriter(w)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(relative), Size: int64(len(data)), Mode: 0o644, ModTime: i.created}); err != nil {
			return err
		}
		if _, err := archive.Write(data); err != nil {
			return err
		}
	}
	return archive.Close()
}
