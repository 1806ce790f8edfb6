// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const chartIntroduction = `<!-- Written by hack/reference from values.yaml: run 'make generate' after a change. -->

# Helm chart ipam

IP address management for Kubernetes: the API server of ` + "`ipam.ironcore.dev`" + `, its controllers, and an etcd for them.

` + "```sh" + `
helm install ipam config/chart/ipam --namespace ipam-system --create-namespace --set image.tag=VERSION
kubectl wait --for=condition=Available apiservice/v1alpha1.ipam.ironcore.dev --timeout=5m
helm upgrade ipam config/chart/ipam --namespace ipam-system --set image.tag=VERSION
helm uninstall ipam --namespace ipam-system
` + "```" + `

The chart makes the same objects as the kustomizations in ` + "`config/`" + `, but for the namespace, and that its NetworkPolicies leave
other pods of the namespace alone. There can be one release
in a cluster. [Installation](../../../docs/operating/installation.md) has the details.

## Values

`

// writeChart writes the schema and the README of the Helm chart. Both are derived from the values and their comments.
func writeChart(root string) error {
	dir := filepath.Join(root, "config", "chart", "ipam")
	data, err := os.ReadFile(filepath.Join(dir, "values.yaml"))
	if err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return err
	}
	page := bytes.NewBufferString(chartIntroduction)
	header(page, "value", "default", "meaning")
	schema, err := describeValues(document.Content[0], "", page)
	if err != nil {
		return err
	}
	schema["$schema"] = "https://json-schema.org/draft-07/schema#"
	// Charts that have this one as a dependency may set global values.
	schema["properties"].(map[string]any)["global"] = map[string]any{"type": "object"}
	encoded, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "values.schema.json"), append(encoded, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "README.md"), page.Bytes(), 0o644)
}

// describeValues returns the JSON schema of a map of values, and writes a row for each value. path is the path of the map.
//
// Helm leaves out a value that is set to null. The templates need all but those that are maps or lists of anything.
func describeValues(values *yaml.Node, path string, page *bytes.Buffer) (map[string]any, error) {
	properties := map[string]any{}
	required := []string{}
	for i := 0; i < len(values.Content); i += 2 {
		key, value := values.Content[i], values.Content[i+1]
		name := path + key.Value
		description, restrictions, err := parseComment(key.HeadComment)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if description == "" {
			return nil, fmt.Errorf("%s: no comment", name)
		}
		var schema map[string]any
		if value.Kind == yaml.MappingNode && isDescribed(value) {
			row(page, "**`"+name+"`**", "", description)
			schema, err = describeValues(value, name+".", page)
		} else {
			schema, err = schemaOf(value)
			var standard any
			if err == nil {
				err = value.Decode(&standard)
			}
			if err == nil {
				var encoded []byte
				encoded, err = json.Marshal(standard)
				row(page, "`"+name+"`", "`"+string(encoded)+"`", description)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		schema["description"] = description
		for keyword, restriction := range restrictions {
			schema[keyword] = restriction
		}
		properties[key.Value] = schema
		if value.Kind == yaml.ScalarNode || schema["properties"] != nil {
			required = append(required, key.Value)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "additionalProperties": false, "required": required}, nil
}

// isDescribed reports whether the values of a map have descriptions. If not, users can set it to anything.
func isDescribed(values *yaml.Node) bool {
	if len(values.Content) == 0 {
		return false
	}
	description, _, err := parseComment(values.Content[0].HeadComment)
	return err == nil && description != ""
}

// schemaOf returns the schema of a value. A map may have other keys than it has by default.
func schemaOf(value *yaml.Node) (map[string]any, error) {
	types := map[string]string{"!!str": "string", "!!int": "integer", "!!bool": "boolean", "!!seq": "array", "!!map": "object"}
	schema := map[string]any{"type": types[value.ShortTag()]}
	if schema["type"] == "" {
		return nil, fmt.Errorf("a value of type %s", value.ShortTag())
	}
	if value.Kind != yaml.MappingNode {
		return schema, nil
	}
	properties := map[string]any{}
	for i := 0; i < len(value.Content); i += 2 {
		_, restrictions, err := parseComment(value.Content[i].HeadComment)
		if err != nil {
			return nil, err
		}
		inner, err := schemaOf(value.Content[i+1])
		if err != nil {
			return nil, err
		}
		if inner["properties"] == nil && len(restrictions) == 0 {
			continue
		}
		for keyword, restriction := range restrictions {
			inner[keyword] = restriction
		}
		properties[value.Content[i].Value] = inner
	}
	if len(properties) > 0 {
		schema["properties"], schema["required"] = properties, slices.Sorted(maps.Keys(properties))
	}
	return schema, nil
}

// parseComment returns the text of a comment, and the restrictions in it: lines such as `@enum [1, 3]`, with a keyword of
// JSON schema and its value.
func parseComment(comment string) (description string, restrictions map[string]any, err error) {
	restrictions = map[string]any{}
	var text []string
	for line := range strings.Lines(comment) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
		restriction, ok := strings.CutPrefix(line, "@")
		if !ok {
			text = append(text, line)
			continue
		}
		keyword, encoded, _ := strings.Cut(restriction, " ")
		var value any
		if err := json.Unmarshal([]byte(encoded), &value); err != nil {
			return "", nil, fmt.Errorf("%s: %w", line, err)
		}
		restrictions[keyword] = value
	}
	return strings.Join(text, " "), restrictions, nil
}
