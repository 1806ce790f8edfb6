// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
	"github.com/spdx/tools-golang/spdxlib"
)

// sbom returns the software bill of materials of a platform, as SPDX 2.3 in JSON: the programs, the Go toolchain, and the
// modules that are linked into any of the programs, as the linker recorded them.
func (i image) sbom(p platform) ([]byte, error) {
	programs, err := programsIn(p.dir)
	if err != nil {
		return nil, err
	}
	document := &v2_3.Document{
		SPDXVersion: v2_3.Version, DataLicense: v2_3.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName: fmt.Sprintf("%s:%s %s/%s", i.name, i.version, p.os, p.arch),
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Organization", Creator: "IronCore contributors"}, {CreatorType: "Tool", Creator: "hack/image"}},
			Created:  i.created.Format(time.RFC3339),
		},
	}
	modules := map[string]*v2_3.Package{}
	uses := map[string][]string{}
	// The namespace must be unique for each document. It is derived from the programs.
	sum := sha256.New()
	for _, program := range programs {
		data, err := os.ReadFile(program)
		if err != nil {
			return nil, err
		}
		info, err := buildinfo.Read(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", program, err)
		}
		digest := sha256.Sum256(data)
		sum.Write(digest[:])
		name := filepath.Base(program)
		one := packageOf("Program-"+name, name, i.version)
		one.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: hex.EncodeToString(digest[:])}}
		one.PackageLicenseConcluded, one.PackageLicenseDeclared, one.PrimaryPackagePurpose = "Apache-2.0", "Apache-2.0", "APPLICATION"
		document.Packages = append(document.Packages, one)
		document.Relationships = append(document.Relationships, relationship("DOCUMENT", "DESCRIBES", one.PackageSPDXIdentifier))

		add := func(path, version, purl string) {
			id := "Go-" + notInID.ReplaceAllString(path, "-") + "-" + notInID.ReplaceAllString(version, "-")
			if modules[id] == nil {
				modules[id] = packageOf(id, path, version)
				modules[id].PackageExternalReferences = []*v2_3.PackageExternalReference{
					{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl}}
			}
			uses[name] = append(uses[name], id)
		}
		add("stdlib", info.GoVersion, "pkg:golang/stdlib@"+info.GoVersion[len("go"):])
		for _, module := range info.Deps {
			switch replaced := module.Replace; {
			case replaced == nil:
			case replaced.Version == "":
				// This is a directory of the same source.
				module.Version = i.version
			default:
				module = replaced
			}
			add(module.Path, module.Version, "pkg:golang/"+module.Path+"@"+module.Version)
		}
	}
	document.DocumentNamespace = "https://github.com/ironcore-dev/ipam-apiserver/sbom/" + hex.EncodeToString(sum.Sum(nil))
	for _, id := range slices.Sorted(maps.Keys(modules)) {
		document.Packages = append(document.Packages, modules[id])
	}
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		for _, id := range uses[name] {
			document.Relationships = append(document.Relationships, relationship("Program-"+name, "DEPENDS_ON", spdx.ElementID(id)))
		}
	}
	if err := spdxlib.ValidateDocument(document); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Write(document, &out, json.Indent(" ")); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// notInID matches what must not be in an identifier of SPDX.
var notInID = regexp.MustCompile(`[^0-9A-Za-z.-]`)

// packageOf returns a package of which nothing is known but its name and version.
func packageOf(id, name, version string) *v2_3.Package {
	return &v2_3.Package{
		PackageName: name, PackageSPDXIdentifier: spdx.ElementID(id), PackageVersion: version,
		PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "NOASSERTION", PackageCopyrightText: "NOASSERTION",
	}
}

func relationship(a, kind string, b spdx.ElementID) *v2_3.Relationship {
	return &v2_3.Relationship{RefA: common.MakeDocElementID("", a), RefB: common.MakeDocElementID("", string(b)), Relationship: kind}
}
