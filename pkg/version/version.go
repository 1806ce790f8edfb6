// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package version provides the version of the programs.
package version

import (
	"regexp"
	"runtime"
	"runtime/debug"

	utilversion "k8s.io/apimachinery/pkg/util/version"
	apimachineryversion "k8s.io/apimachinery/pkg/version"
)

// unreleased is the version of a build for which the linker sets none.
const unreleased = "v0.0.0-unreleased"

// version is set by the linker, with -X.
var version = unreleased

// Get returns the version of the running program, such as v1.2.3. It is always a semantic version, as clients of an API
// server expect. If the linker set something else, such as a bare commit, Get returns it as the build metadata of
// v0.0.0-unreleased.
func Get() string { return semantic(version) }

// notMetadata matches characters that are not allowed in build metadata (Semantic Versioning 2.0.0, item 10).
var notMetadata = regexp.MustCompile(`[^0-9A-Za-z-]+`)

func semantic(given string) string {
	if _, err := utilversion.ParseSemantic(given); err == nil {
		return given
	}
	if metadata := notMetadata.ReplaceAllString(given, "-"); metadata != "" {
		return unreleased + "+" + metadata
	}
	return unreleased
}

// Info returns the version information that an API server serves at /version.
func Info() *apimachineryversion.Info {
	parsed := utilversion.MustParseSemantic(Get())
	info := &apimachineryversion.Info{
		Major:      utilversion.Itoa(parsed.Major()),
		Minor:      utilversion.Itoa(parsed.Minor()),
		GitVersion: Get(),
		GoVersion:  runtime.Version(),
		Compiler:   runtime.Compiler,
		Platform:   runtime.GOOS + "/" + runtime.GOARCH,
	}
	build, _ := debug.ReadBuildInfo()
	if build == nil {
		return info
	}
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			info.GitCommit = setting.Value
		case "vcs.modified":
			info.GitTreeState = map[string]string{"true": "dirty", "false": "clean"}[setting.Value]
		}
	}
	return info
}
