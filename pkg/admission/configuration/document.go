// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package configuration reads the configuration of the admission plugins. It rejects unknown and duplicate fields.
// Errors include line numbers.
package configuration

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// GroupVersion is the apiVersion of the plugin configurations.
const GroupVersion = "admission.ipam.ironcore.dev/v1alpha1"

// Document is the configuration of one plugin.
type Document struct{ node *yaml.Node }

// Read reads a document. If r is nil, it returns nil. It fails if r cannot be read, is not valid YAML, or is empty.
func Read(r io.Reader) (*Document, error) {
	if r == nil {
		return nil, nil
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	node, err := parse(data)
	if err != nil {
		return nil, err
	}
	return &Document{node}, nil
}

// Field describes a field of a configuration. Name is its name, Action is where Decode stores its value, and OneOf are
// the allowed values.
type Field struct {
	Name   string
	Action *Action
	OneOf  []Action
}

// Decode checks that the document has the given kind, and stores the values of its fields. Fields that are not in the
// document keep their values, and so do all fields if the document is nil. Decode returns all errors in the document,
// joined.
func (d *Document) Decode(kind string, fields ...Field) error {
	if d == nil {
		return nil
	}
	known := fieldReaders{
		"apiVersion": exactly(GroupVersion),
		"kind":       exactly(kind),
	}
	for _, f := range fields {
		known[f.Name] = func(node *yaml.Node) []error {
			value, errs := stringOf(node)
			if len(errs) > 0 {
				return errs
			}
			if !slices.Contains(f.OneOf, Action(value)) {
				return at(node, "%s is %q, must be one of %q", f.Name, value, f.OneOf)
			}
			*f.Action = Action(value)
			return nil
		}
	}
	return errors.Join(known.read(d.node, "apiVersion", "kind")...)
}

// fieldReaders maps the names of the fields of a YAML mapping to the functions that read them.
type fieldReaders map[string]func(*yaml.Node) []error

// read reads all fields of a mapping, and returns all errors in it.
func (f fieldReaders) read(node *yaml.Node, required ...string) []error {
	if node.Kind != yaml.MappingNode {
		return at(node, "must be a mapping with the fields %q", slices.Sorted(maps.Keys(f)))
	}
	var errs []error
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		read, ok := f[key.Value]
		switch {
		case !ok:
			errs = append(errs, at(key, "unknown field %q, must be one of %q", key.Value, slices.Sorted(maps.Keys(f)))...)
		case seen[key.Value]:
			errs = append(errs, at(key, "field %q is set twice", key.Value)...)
		default:
			errs = append(errs, read(value)...)
		}
		seen[key.Value] = true
	}
	for _, name := range required {
		if !seen[name] {
			errs = append(errs, at(node, "field %q is missing", name)...)
		}
	}
	return errs
}

// exactly returns a function that reads a field and checks that it has one of the wanted values.
func exactly(wanted ...string) func(*yaml.Node) []error {
	return func(node *yaml.Node) []error {
		value, errs := stringOf(node)
		if len(errs) == 0 && !slices.Contains(wanted, value) {
			return at(node, "is %q, must be %s", value, strings.Join(wanted, " or "))
		}
		return errs
	}
}

func stringOf(node *yaml.Node) (string, []error) {
	if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!str" {
		return "", at(node, "must be a string")
	}
	return node.Value, nil
}

func at(node *yaml.Node, format string, args ...any) []error {
	return []error{fmt.Errorf("line %d: %s", node.Line, fmt.Sprintf(format, args...))}
}

// parse returns the root node of a YAML document. Errors of the YAML parser include the line number.
func parse(data []byte) (*yaml.Node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 {
		return nil, errors.New("the document is empty")
	}
	return document.Content[0], nil
}
