// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package configuration

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"
)

// CheckFile returns all errors in an AdmissionConfiguration file and in the files that it names, with file names and
// line numbers. The generic loader runs later and reports neither. It exits the process if a file does not exist, and
// ignores unknown plugins.
//
// plugins maps the names of all plugins to the functions that check their configurations. The function is nil for
// plugins whose own check is good enough.
func CheckFile(file string, plugins map[string]func(*Document) error) error {
	node, err := readFile(file)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	plugin := func(node *yaml.Node) []error {
		var name, path string
		var configuration *yaml.Node
		errs := fieldReaders{
			"name":          func(value *yaml.Node) (errs []error) { name, errs = stringOf(value); return errs },
			"path":          func(value *yaml.Node) (errs []error) { path, errs = stringOf(value); return errs },
			"configuration": func(value *yaml.Node) []error { configuration = value; return nil },
		}.read(node, "name")
		if len(errs) > 0 {
			return inFile(file, errs)
		}
		check, ok := plugins[name]
		switch {
		case !ok:
			return inFile(file, at(node, "unknown plugin %q, must be one of %q", name, slices.Sorted(maps.Keys(plugins))))
		case seen[name]:
			return inFile(file, at(node, "plugin %s is configured twice", name))
		case path != "" && configuration != nil:
			return inFile(file, at(node, "plugin %s has both path and configuration", name))
		}
		seen[name] = true
		if path != "" {
			return checkPath(file, path, node, check)
		}
		if configuration != nil && check != nil {
			if err := check(&Document{configuration}); err != nil {
				return inFile(file, split(err))
			}
		}
		return nil
	}
	var errs []error
	errs = append(errs, inFile(file, fieldReaders{
		"apiVersion": exactly("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1alpha1"),
		"kind":       exactly("AdmissionConfiguration"),
		"plugins": func(node *yaml.Node) []error {
			if node.Kind != yaml.SequenceNode {
				return at(node, "plugins must be a list")
			}
			for _, item := range node.Content {
				errs = append(errs, plugin(item)...)
			}
			return nil
		},
	}.read(node, "apiVersion", "kind"))...)
	return errors.Join(errs...)
}

// checkPath checks a plugin configuration in a separate file. named is the node that refers to the file.
func checkPath(file, path string, named *yaml.Node, check func(*Document) error) []error {
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(file), path)
	}
	if check == nil {
		if _, err := os.ReadFile(path); err != nil {
			return inFile(file, at(named, "%v", err))
		}
		return nil
	}
	node, err := readFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return inFile(file, at(named, "%v", err))
	case err != nil:
		return []error{err}
	}
	if err := check(&Document{node}); err != nil {
		return inFile(path, split(err))
	}
	return nil
}

func readFile(file string) (*yaml.Node, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	node, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return node, nil
}

func inFile(file string, errs []error) []error {
	named := make([]error, len(errs))
	for i, err := range errs {
		named[i] = fmt.Errorf("%s: %w", file, err)
	}
	return named
}

// split returns the errors that err joins, or err itself if it joins none.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
