// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/admissiontest"
	"github.com/ironcore-dev/ipam-apiserver/pkg/admission/initializer"
	genericoptions "k8s.io/apiserver/pkg/server/options"
)

const head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n"

// parentIn returns a file with the given configuration of PrefixParent, indented. The configuration begins in line
// 6.
func parentIn(configuration string) string {
	return head + "plugins:\n- name: PrefixParent\n  configuration:\n    " + strings.ReplaceAll(configuration, "\n", "\n    ") + "\n"
}

const (
	parentHead  = "apiVersion: admission.ipam.ironcore.dev/v1alpha1\nkind: PrefixParentConfiguration\n"
	parentFile  = head + "plugins:\n- name: PrefixParent\n  path: parent.yaml\n"
	overlapHead = "apiVersion: admission.ipam.ironcore.dev/v1alpha1\nkind: PrefixOverlapConfiguration\n"
)

func TestConfigurationFiles(t *testing.T) {
	for _, test := range []struct {
		name string
		// main is the content of admission.yaml. other is that of parent.yaml, if it is set.
		main, other string
		// want contains parts of the error. The first is the name of the file.
		want []string
	}{
		{"nothing configured", head, "", nil},
		{"in the file", parentIn(parentHead + "action: Deny"), "", nil},
		{"no field set", parentIn(parentHead), "", nil},
		{"in another file", parentFile, parentHead + "action: Warn\n", nil},
		{"in JSON", `{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": [{"name": "PrefixParent", ` +
			`"configuration": {"apiVersion": "admission.ipam.ironcore.dev/v1alpha1", "kind": "PrefixParentConfiguration", "action": "Deny"}}]}`, "", nil},
		{"both", head + "plugins:\n- name: PrefixOverlap\n  path: parent.yaml\n", overlapHead + "roots: Deny\nchildren: Allow\n", nil},
		{"a generic plugin", head + "plugins:\n- name: ResourceQuota\n  configuration: {apiVersion: resourcequota.admission.k8s.io/v1, kind: ResourceQuotaConfiguration}\n", "", nil},

		{"unknown field", parentIn(parentHead + "acton: Deny"), "", []string{"admission.yaml: line 8: ", `unknown field "acton"`}},
		{"unknown action", parentIn(parentHead + "action: Refuse"), "", []string{"admission.yaml: line 8: ", `action is "Refuse"`, `"Warn" "Deny"`}},
		{"an action of the other plugin", parentIn(parentHead + "action: Allow"), "", []string{"admission.yaml: line 8: ", `"Allow"`}},
		{"not a string", parentIn(parentHead + "action: [Deny]"), "", []string{"admission.yaml: line 8: ", "must be a string"}},
		{"a number", parentIn(parentHead + "action: 1"), "", []string{"admission.yaml: line 8: ", "must be a string"}},
		{"set twice", parentIn(parentHead + "action: Deny\naction: Warn"), "", []string{"admission.yaml: line 9: ", `field "action" is set twice`}},
		{"wrong kind", parentIn("apiVersion: admission.ipam.ironcore.dev/v1alpha1\nkind: PrefixOverlapConfiguration"), "", []string{"admission.yaml: line 7: ", "PrefixParentConfiguration"}},
		{"wrong version", parentIn("apiVersion: admission.ipam.ironcore.dev/v1\nkind: PrefixParentConfiguration"), "", []string{"admission.yaml: line 6: ", "v1alpha1"}},
		{"no kind", parentIn("apiVersion: admission.ipam.ironcore.dev/v1alpha1"), "", []string{"admission.yaml: line 6: ", `"kind" is missing`}},
		{"not a mapping", parentIn("Deny"), "", []string{"admission.yaml: line 6: ", "must be a mapping"}},
		{"two mistakes", parentIn("apiVersion: v1\nkind: PrefixParentConfiguration\naction: Refuse"), "", []string{"admission.yaml: line 6: ", "admission.yaml: line 8: "}},
		{"nothing to say", head + "plugins:\n- name: PrefixInUse\n  configuration:\n    apiVersion: admission.ipam.ironcore.dev/v1alpha1\n    kind: PrefixInUseConfiguration\n    action: Warn\n", "",
			[]string{"admission.yaml: line 8: ", `unknown field "action"`}},

		{"bad YAML", head + "plugins:\n- name: PrefixParent\n  path: [\n", "", []string{"admission.yaml: ", "line 5"}},
		{"a tab", head + "plugins:\n\t- name: PrefixParent\n", "", []string{"admission.yaml: ", "line 4"}},
		{"empty", "", "", []string{"admission.yaml: ", "the document is empty"}},
		{"a plugin that does not exist", head + "plugins:\n- name: PrefixPrent\n", "", []string{"admission.yaml: line 4: ", `unknown plugin "PrefixPrent"`}},
		{"a plugin twice", head + "plugins:\n- name: PrefixParent\n- name: PrefixParent\n", "", []string{"admission.yaml: line 5: ", "configured twice"}},
		{"path and configuration", head + "plugins:\n- name: PrefixParent\n  path: parent.yaml\n  configuration: {}\n", parentHead, []string{"admission.yaml: line 4: ", "both"}},
		{"no name", head + "plugins:\n- path: parent.yaml\n", parentHead, []string{"admission.yaml: line 4: ", `"name" is missing`}},
		{"unknown field of a plugin", head + "plugins:\n- nme: PrefixParent\n", "", []string{"admission.yaml: line 4: ", `unknown field "nme"`}},
		{"unknown field of the file", head + "plugin: []\n", "", []string{"admission.yaml: line 3: ", `unknown field "plugin"`}},
		{"plugins are no list", head + "plugins: {}\n", "", []string{"admission.yaml: line 3: ", "must be a list"}},
		{"another kind of file", parentHead + "action: Deny\n", "", []string{"admission.yaml: line 1: ", "apiserver.config.k8s.io/v1"}},

		{"the other file is missing", parentFile, "", []string{"admission.yaml: line 4: ", "parent.yaml: no such file"}},
		{"the other file is bad YAML", parentFile, parentHead + "action: 'Deny\n", []string{"parent.yaml: ", "line "}},
		{"the other file is empty", parentFile, "# Deny\n", []string{"parent.yaml: ", "the document is empty"}},
		{"unknown field in the other file", parentFile, parentHead + "acton: Deny\n", []string{"parent.yaml: line 3: ", `unknown field "acton"`}},
		{"unknown action in the other file", parentFile, parentHead + "\n# refuse\naction: Refuse\n", []string{"parent.yaml: line 5: ", `action is "Refuse"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			options := genericoptions.NewAdmissionOptions()
			Install(options)
			options.ConfigFile = filepath.Join(dir, "admission.yaml")
			for name, content := range map[string]string{"admission.yaml": test.main, "parent.yaml": test.other} {
				if name == "parent.yaml" && content == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := CheckConfiguration(options)
			if len(test.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				// The checked configuration is the one that is used later.
				if _, err := NewWithoutCluster(options, initializer.New(&admissiontest.Reader{}, &initializer.Enforced{})); err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("it was accepted")
			}
			for i, want := range test.want {
				if i == 0 || strings.HasSuffix(want, ": ") {
					want = dir + "/" + want
				}
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nlacks %q", err, want)
				}
			}
		})
	}
}

func TestAConfigurationFileHasToExist(t *testing.T) {
	options := genericoptions.NewAdmissionOptions()
	Install(options)
	options.ConfigFile = filepath.Join(t.TempDir(), "admission.yaml")
	if err := CheckConfiguration(options); err == nil || !strings.Contains(err.Error(), options.ConfigFile) {
		t.Errorf("answered %v", err)
	}
}
