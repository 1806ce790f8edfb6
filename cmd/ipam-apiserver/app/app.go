// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package app implements the command line of ipam-apiserver.
package app

import (
	"context"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/spf13/cobra"
)

// NewCommand returns the command. It serves until ctx ends.
func NewCommand(ctx context.Context) *cobra.Command {
	options := apiserver.NewOptions()
	cmd := &cobra.Command{
		Use:   "ipam-apiserver",
		Short: "Serve the API group ipam.ironcore.dev",
		Long: "ipam-apiserver serves the API group ipam.ironcore.dev from its own etcd. An APIService registers it in a " +
			"Kubernetes cluster. It delegates authentication and authorization to that cluster.",
		Version:      version.Get(),
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			return run(ctx, options)
		},
	}
	options.AddFlags(cmd.Flags())
	cmd.AddCommand(newAuditCommand(ctx))
	return cmd
}

func run(ctx context.Context, options *apiserver.Options) error {
	if err := options.Complete(); err != nil {
		return err
	}
	if err := options.Validate(); err != nil {
		return err
	}
	config, err := options.Config()
	if err != nil {
		return err
	}
	server, err := config.Complete().New()
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
