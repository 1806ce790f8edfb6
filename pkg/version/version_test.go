// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package version

import (
	"testing"

	utilversion "k8s.io/apimachinery/pkg/util/version"
)

// TestSemantic sets the variable of the linker to outputs of git describe --tags --always --dirty, and to invalid
// values. kubectl version fails if it cannot parse the version of the server.
func TestSemantic(t *testing.T) {
	for given, want := range map[string]string{
		"v1.2.3":                      "v1.2.3",
		"v1.2.3-dirty":                "v1.2.3-dirty",
		"v1.2.3-rc.1":                 "v1.2.3-rc.1",
		"v1.2.3-14-g7fd9690-dirty":    "v1.2.3-14-g7fd9690-dirty",
		"1.2.3":                       "1.2.3",
		"v0.0.0-unreleased":           "v0.0.0-unreleased",
		"7fd9690":                     "v0.0.0-unreleased+7fd9690",
		"7fd9690-dirty":               "v0.0.0-unreleased+7fd9690-dirty",
		"v1.2":                        "v0.0.0-unreleased+v1-2",
		"my/branch_name..x":           "v0.0.0-unreleased+my-branch-name-x",
		"v0.0.0-master+$Format:%H$":   "v0.0.0-unreleased+v0-0-0-master-Format-H-",
		"":                            "v0.0.0-unreleased",
		"nightly\n":                   "v0.0.0-unreleased+nightly-",
		"Größe":                       "v0.0.0-unreleased+Gr-e",
		"v0.0.0-unreleased+something": "v0.0.0-unreleased+something",
	} {
		got := semantic(given)
		if got != want {
			t.Errorf("%q becomes %q, not %q", given, got, want)
		}
		if _, err := utilversion.ParseSemantic(got); err != nil {
			t.Errorf("%q becomes %q: %v", given, got, err)
		}
	}
}

func TestInfo(t *testing.T) {
	defer func(v string) { version = v }(version)
	version = "v3.14.15-dirty"
	info := Info()
	if info.GitVersion != "v3.14.15-dirty" || info.Major != "3" || info.Minor != "14" || info.GoVersion == "" || info.Compiler == "" || info.Platform == "" {
		t.Errorf("got %+v", info)
	}
}
