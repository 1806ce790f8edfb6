// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// writeCLI writes the commands of kubectl-ipam with their flags, after what holds for all of them.
func writeCLI(root string, page *bytes.Buffer) error {
	page.WriteString(`# kubectl ipam

` + "`kubectl-ipam`" + ` is a plugin for kubectl. Put it into a directory of the PATH, and kubectl runs it as ` + "`kubectl ipam`" + `. For
completion of names in the shell, put ` + "`cmd/kubectl-ipam/kubectl_complete-ipam`" + ` there, too. It uses the kubeconfig, the
context and the rights of the user, and needs nothing in the cluster but the API.

## Contract

- Data goes to standard output. Everything else goes to standard error: errors, notes, warnings, questions, progress.
- ` + "`-q`" + ` prints the result only.
- Questions are asked on a terminal only. ` + "`--yes`" + ` answers them. A question names what is destroyed.
- There are colors on a terminal only, and none if the variable NO_COLOR is set.
- Text from the cluster is printed without control characters. Programs get it unchanged: JSON, YAML and templates are
  escaped only if standard output is a terminal.
- ` + "`-o`" + ` takes ` + "`table`, `wide`, `json`, `yaml`, `name`, `jsonpath=`, `go-template=` and `custom-columns=`" + `. The documents in JSON
  and YAML have the apiVersion ` + "`cli.ipam.ironcore.dev/v1alpha1`" + ` and a list of items, which ` + "`custom-columns`" + ` shows one by
  one. The tables are for people and may change.
- What the user may not read is said, and the rest is printed. The exit code is then 3.

| exit code | meaning |
|---|---|
`)
	codes, err := exitCodes(filepath.Join(root, "pkg", "cli", "exit.go"))
	if err != nil {
		return err
	}
	for code, meaning := range codes {
		row(page, strconv.Itoa(code), meaning)
	}
	page.WriteString("\n")

	cmd := cli.NewCommand(genericiooptions.IOStreams{})
	for _, sub := range cmd.Commands() {
		if sub.Name() == "completion" || sub.Hidden || !sub.IsAvailableCommand() {
			continue
		}
		fmt.Fprintf(page, "## %s\n\n%s.\n\n```\n%s\n```\n\n%s\n\n", sub.Name(), sub.Short, "kubectl ipam "+sub.Use, sub.Long)
		if sub.Example != "" {
			lines := strings.Split(sub.Example, "\n")
			for i := range lines {
				lines[i] = strings.TrimPrefix(lines[i], "  ")
			}
			fmt.Fprintf(page, "```sh\n%s\n```\n\n", strings.Join(lines, "\n"))
		}
		writeRows(page, sub.LocalNonPersistentFlags(), func(*pflag.Flag) bool { return true })
	}
	page.WriteString("## Flags of all commands\n\nThey are those of kubectl.\n\n")
	writeRows(page, cmd.PersistentFlags(), func(f *pflag.Flag) bool { return f.Name != "cache-dir" })
	return nil
}

// exitCodes returns what the exit codes mean, from the comments on their constants, which are counted from 0.
func exitCodes(path string) (meanings []string, err error) {
	err = eachConstant(path, func(value *ast.ValueSpec) error {
		meanings = append(meanings, about(value.Names[0].Name, value.Doc.Text()))
		return nil
	})
	return meanings, err
}
