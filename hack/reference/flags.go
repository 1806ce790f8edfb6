// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	apiserverapp "github.com/ironcore-dev/ipam-apiserver/cmd/ipam-apiserver/app"
	managerapp "github.com/ironcore-dev/ipam-apiserver/cmd/ipam-controller-manager/app"
	standaloneapp "github.com/ironcore-dev/ipam-apiserver/cmd/ipam-standalone/app"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
)

// writeFlags writes the flags of every program and of its commands.
func writeFlags(_ string, page *bytes.Buffer) error {
	page.WriteString(`# Flags

Every program also has ` + "`-v`, `--vmodule` and `--log-flush-frequency`" + ` for its log, ` + "`--version`, and `--help`" + `.

`)
	// The flags of every API server are long, and known: they come last.
	generic := pflag.NewFlagSet("", pflag.ContinueOnError)
	apiserver.NewOptions().Recommended.AddFlags(generic)
	utilfeature.DefaultMutableFeatureGate.AddFlag(generic)
	isGeneric := func(f *pflag.Flag) bool { return generic.Lookup(f.Name) != nil }

	ctx := context.Background()
	server := apiserverapp.NewCommand(ctx)
	writeTable(page, server.Name(), server.Short, server.LocalFlags(), func(f *pflag.Flag) bool { return !isGeneric(f) })
	fmt.Fprintf(page, "It also has [the flags of every aggregated API server](#flags-of-every-aggregated-api-server).\n\n")
	for _, command := range server.Commands() {
		writeTable(page, command.CommandPath(), command.Short, command.LocalFlags(), func(f *pflag.Flag) bool { return !isGeneric(f) })
		fmt.Fprintf(page, "It also has the flags `--etcd-*`, `--storage-*` and `--encryption-*` of the server.\n\n")
	}
	for _, program := range []*cobra.Command{managerapp.NewCommand(ctx), standaloneapp.NewCommand(ctx)} {
		for _, command := range append([]*cobra.Command{program}, program.Commands()...) {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			flags.AddFlagSet(command.LocalFlags())
			flags.AddFlagSet(command.InheritedFlags())
			writeTable(page, command.CommandPath(), command.Short, flags, func(*pflag.Flag) bool { return true })
		}
	}
	fmt.Fprintf(page, "## Flags of every aggregated API server\n\n`ipam-apiserver` has them from k8s.io/apiserver.\n\n")
	writeRows(page, server.LocalFlags(), isGeneric)
	return nil
}

// writeTable writes the flags of a command that are wanted.
func writeTable(page *bytes.Buffer, name, short string, flags *pflag.FlagSet, wanted func(*pflag.Flag) bool) {
	fmt.Fprintf(page, "## %s\n\n%s.\n\n", name, short)
	writeRows(page, flags, wanted)
}

func writeRows(page *bytes.Buffer, flags *pflag.FlagSet, wanted func(*pflag.Flag) bool) {
	header(page, "flag", "default", "meaning")
	flags.VisitAll(func(f *pflag.Flag) {
		if !wanted(f) || f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		value := ""
		if f.DefValue != "" && f.DefValue != "[]" {
			value = "`" + f.DefValue + "`"
		}
		usage := f.Usage
		if f.Name == "feature-gates" {
			// They are listed by --help.
			usage, _, _ = strings.Cut(usage, " Options are:")
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		row(page, name, value, usage)
	})
	page.WriteString("\n")
}
