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
		endpoints, done, err := standalone.AccessEtcd(ctx, options.DataDir, standalone.QuotaBytes(options.QuotaBytes))
		etcd := apiserver.NewOptions().Recommended.Etcd
		etcd.StorageConfig.Transport.ServerList = endpoints
		return etcd, done, err
	})
	cmd.PreRun = silent
	cmd.Long += " Whether an ipam-standalone runs on the data directory makes no difference."
	return cmd
}

// newReclaimCommand returns the command that reclaims space in the database of a data directory.
func newReclaimCommand(ctx context.Context, options *standalone.Options) *cobra.Command {
	return &cobra.Command{
		Use:   "reclaim",
		Short: "Make room in the database, also when it is full",
		Long: "reclaim drops the history of the database, gives the space back to the file system, and lets etcd write again " +
			"if it refused to because the database was larger than its quota. An ipam-standalone may run on the data directory; " +
			"its requests wait meanwhile.",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		PreRun:       silent,
		RunE: func(cmd *cobra.Command, _ []string) error {
			endpoints, done, err := standalone.AccessEtcd(ctx, options.DataDir, standalone.QuotaBytes(options.QuotaBytes))
			if err != nil {
				return err
			}
			defer done()
			result, err := standalone.Reclaim(ctx, endpoints)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The database has %d bytes, it had %d. Its quota is %d.\n", result.After, result.Before, result.Quota)
			if result.After > result.Quota/100*enough {
				return fmt.Errorf("the objects fill the database to more than %d%%: start ipam-standalone with a larger --quota-backend-bytes, and run this again", enough)
			}
			return nil
		},
	}
}
