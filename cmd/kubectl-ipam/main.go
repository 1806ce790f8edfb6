// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Command kubectl-ipam is a kubectl plugin for the API group ipam.ironcore.dev.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// gcPercent is GOGC, unless the environment sets it: a tree of a million Prefixes is one live heap, which the default
// would let grow to twice its size.
const gcPercent = 60

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o := cli.Options{IOStreams: genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}}
	code := o.Run(ctx, os.Args[1:])
	stop()
	os.Exit(int(code))
}
