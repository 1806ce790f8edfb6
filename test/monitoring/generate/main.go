// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Command generate writes the dashboards to config/monitoring, and copies of them and of the rules to the chart, because
// Helm reads only files of the chart. The argument is the root of the repository.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ironcore-dev/ipam-apiserver/test/monitoring/dashboards"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root string) error {
	files, err := dashboards.All()
	if err != nil {
		return err
	}
	chart := filepath.Join(root, "config/chart/ipam/files")
	for name, text := range files {
		for _, dir := range []string{filepath.Join(root, "config/monitoring/dashboards"), filepath.Join(chart, "dashboards")} {
			if err := write(filepath.Join(dir, name), text); err != nil {
				return err
			}
		}
	}
	for name, from := range dashboards.Rules {
		rule, err := os.ReadFile(filepath.Join(root, from))
		if err != nil {
			return err
		}
		_, spec, found := bytes.Cut(rule, []byte("\nspec:\n"))
		if !found {
			return fmt.Errorf("%s has no spec", from)
		}
		if err := write(filepath.Join(chart, name), fmt.Appendf(nil, "# Written by 'make generate' from %s.\n%s", from, spec)); err != nil {
			return err
		}
	}
	return nil
}

func write(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
