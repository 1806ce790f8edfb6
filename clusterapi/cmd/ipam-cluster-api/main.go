// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Command ipam-cluster-api gives machines of Cluster API their addresses from Prefixes.
package main

import (
	"fmt"
	"os"

	"github.com/ironcore-dev/ipam-apiserver/clusterapi/cmd/ipam-cluster-api/app"
	"k8s.io/component-base/cli"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	if err := cli.RunNoErrOutput(app.NewCommand(ctrl.SetupSignalHandler())); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
