// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/openapi"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// writeAPI writes the fields of all kinds, from the OpenAPI schema.
func writeAPI(_ string, page *bytes.Buffer) error {
	definitions := openapi.GetOpenAPIDefinitions(func(name string) spec.Ref { return spec.MustCreateRef(name) })
	own, _, _ := strings.Cut(v1alpha1.Prefix{}.OpenAPIModelName(), ".Prefix")
	fmt.Fprintf(page, `# API reference

The group is %s, the version %s. All kinds are namespaced. `+"`kubectl explain prefix.spec`"+` shows the same on a
running server. [Conditions and reasons](conditions.md) are on a page of their own.

| kind | resource | short name | subresources |
|---|---|---|---|
| Prefix | prefixes | pfx | status, binding |
| PrefixAllocation | prefixallocations | pfxa | status, binding |
| PrefixPolicy | prefixpolicies | pfxp | status |

`, "`"+v1alpha1.GroupVersion.Group+"`", "`"+v1alpha1.GroupVersion.Version+"`")
	page.WriteString(`The category ` + "`ipam`" + ` has them all: ` + "`kubectl get ipam`" + `. The other kinds here are what a client posts to the subresource
` + "`binding`" + `. PrefixTemplateSpec (metadata and the spec of a Prefix) is a Go type for other API groups that embed a Prefix.

`)
	for _, name := range slices.Sorted(maps.Keys(definitions)) {
		kind, ok := strings.CutPrefix(name, own+".")
		_, typed := definitions[name].Schema.Properties["kind"]
		if !ok || !typed || strings.HasSuffix(kind, "List") {
			continue
		}
		schema := definitions[name].Schema
		fmt.Fprintf(page, "## %s\n\n%s\n\n", kind, schema.Description)
		if specification, ok := definitions[own+"."+kind+"Spec"]; ok {
			fmt.Fprintf(page, "%s\n\n", specification.Schema.Description)
		}
		header(page, "field", "type", "meaning")
		writeFields(page, definitions, own, "", schema)
		page.WriteString("\n")
	}
	return nil
}

// writeFields writes a row for each field of a schema, and of the schemas of this group in it.
func writeFields(page *bytes.Buffer, definitions map[string]common.OpenAPIDefinition, own, path string, schema spec.Schema) {
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		if path == "" && (name == "kind" || name == "apiVersion") {
			continue
		}
		property := schema.Properties[name]
		kind, nested := typeOf(property)
		meaning := about(name, property.Description)
		if slices.Contains(schema.Required, name) {
			meaning += " Required."
		}
		row(page, "`"+path+name+"`", kind, meaning)
		if strings.HasPrefix(nested, own+".") {
			writeFields(page, definitions, own, path+name+".", definitions[nested].Schema)
		}
	}
}

// typeOf returns the name of the type of a property, and the definition that it refers to.
func typeOf(property spec.Schema) (kind, definition string) {
	reference := property.Ref.String()
	if reference == "" && len(property.AllOf) == 1 {
		reference = property.AllOf[0].Ref.String()
	}
	switch {
	case reference != "":
		return reference[strings.LastIndex(reference, ".")+1:], reference
	case property.Type.Contains("array"):
		kind, definition = typeOf(*property.Items.Schema)
		return "list of " + kind, definition
	case property.Format != "":
		return property.Format, ""
	}
	return strings.Join(property.Type, ", "), ""
}
