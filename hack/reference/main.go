// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Command reference writes the pages of docs/reference: the fields of the API, conditions and reasons, flags, the
// commands of kubectl-ipam, and metrics.
// It reads them from the code. The argument is the root of the repository.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root string) error {
	for name, write := range map[string]func(string, *bytes.Buffer) error{
		"api": writeAPI, "cli": writeCLI, "conditions": writeConditions, "flags": writeFlags, "metrics": writeMetrics,
	} {
		page := bytes.NewBufferString("<!-- Written by hack/reference: run 'make generate' after a change of the code. -->\n\n")
		if err := write(root, page); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(root, "docs", "reference", name+".md"), page.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return writeChart(root)
}

// row writes a row of a table.
func row(page *bytes.Buffer, cells ...string) {
	for _, cell := range cells {
		fmt.Fprintf(page, "| %s ", strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(strings.TrimSpace(cell)))
	}
	page.WriteString("|\n")
}

// header writes the header of a table.
func header(page *bytes.Buffer, cells ...string) {
	row(page, cells...)
	page.WriteString(strings.Repeat("|---", len(cells)) + "|\n")
}

// about returns what a comment says about a name that it begins with, as a sentence: "X means that the sun shines." says
// "The sun shines.".
func about(name, comment string) string {
	comment = strings.Join(strings.Fields(comment), " ")
	rest, ok := strings.CutPrefix(comment, name)
	if !ok || rest == "" || !strings.ContainsAny(rest[:1], " ,") {
		return comment
	}
	rest = strings.TrimLeft(rest, ", ")
	for _, verb := range []string{"means that ", "is ", "are "} {
		if after, ok := strings.CutPrefix(rest, verb); ok {
			rest = after
			break
		}
	}
	first, size := utf8.DecodeRuneInString(rest)
	return string(unicode.ToUpper(first)) + rest[size:]
}
