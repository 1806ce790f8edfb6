// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"io"

	apiserverapp "github.com/ironcore-dev/ipam-apiserver/cmd/ipam-apiserver/app"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/etcd"
	"github.com/spf13/cobra"
	genericoptions "k8s.io/apiserver/pkg/server/options"
)

// enough is the maximum size of the database after reclaim, in percent of its quota. With a larger database, the next
// writes would soon raise the NOSPACE alarm of etcd again.
const enough = 90

// silent disables the log of a command. The command returns its errors, and the etcd client logs harmless warnings when
// its connection ends.
func silent(cmd *cobra.Command, _ []string) { quietUnlessVerbose(cmd, io.Discard) }

// newAuditCommand returns the command that compares the objects in a data directory with their claims.
func newAuditCommand(ctx context.Context, options *standalone.Options) *cobra.Command {
	cmd := apiserverapp.AuditCommand(ctx, func() (*genericoptions.EtcdOptions, func(), error) {
		endpoints, done, err := etcd.Access(ctx, options.DataDir, etcd.QuotaBytes(options.QuotaBytes))
		etcd := apiserver.NewOptions().Recommended.Etcd
		etcd.StorageConfig.Transport.ServerList = endpoints
		return etcd, done, err
	})
	cmd.PreRun = silent
	cmd.Long += " It works whether or not an ipam-standalone is running on the data directory."
	return cmd
}

// newReclaimCommand returns the command that reclaims space in the database of a data directory.
func newReclaimCommand(ctx context.Context, options *standalone.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "reclaim",
		Short: "Free space in the database, even if it is full",
		Long: "reclaim compacts and defragments the database, and disarms the alarm that etcd raises when the database reaches " +
			"its quota. An ipam-standalone can keep running on the data directory; its requests wait meanwhile.",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		PreRun:       silent,
		RunE: func(cmd *cobra.Command, _ []string) error {
			endpoints, done, err := etcd.Access(ctx, options.DataDir, etcd.QuotaBytes(options.QuotaBytes))
			if err != nil {
				return err
			}
			defer done()
			result, err := etcd.Reclaim(ctx, endpoints)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The size of the database is %d bytes; it was %d. The quota is %d.\n", result.After, result.Before, result.Quota)
			if result.After > result.Quota/100*enough {
				return fmt.Errorf("the database is still more than %d%% full: start ipam-standalone with a larger --quota-backend-bytes, and run this again", enough)
			}
			return nil
		},
	}
}
