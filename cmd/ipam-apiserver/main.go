// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Command ipam-apiserver is the aggregated API server of the group ipam.ironcore.dev.
package main

import (
	"fmt"
	"os"

	"github.com/ironcore-dev/ipam-apiserver/cmd/ipam-apiserver/app"
	// The image has no authorities, which webhooks outside of the cluster need. Those of the system come first.
	_ "golang.org/x/crypto/x509roots/fallback"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
)

func main() {
	if err := cli.RunNoErrOutput(app.NewCommand(genericapiserver.SetupSignalContext())); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
