// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/cli-runtime/pkg/printers"
)

// auditReport is what the command prints as JSON.
type auditReport struct {
	// Mended are the differences that --repair has mended.
	Mended []claims.Difference `json:"mended,omitempty"`
	// Differences are those that there are.
	Differences []claims.Difference `json:"differences"`
}

// newAuditCommand returns the command that compares objects with claims in the etcd that flags tell.
func newAuditCommand(ctx context.Context) *cobra.Command {
	etcd := apiserver.NewOptions().Recommended.Etcd
	cmd := AuditCommand(ctx, func() (*genericoptions.EtcdOptions, func(), error) { return etcd, func() {}, checkSockets(etcd) })
	etcd.AddFlags(cmd.Flags())
	return cmd
}

// checkSockets tells at once that a unix socket is not there, which etcd's client tries for long to connect to.
func checkSockets(etcd *genericoptions.EtcdOptions) error {
	for _, server := range etcd.StorageConfig.Transport.ServerList {
		endpoint, err := url.Parse(server)
		if err != nil || endpoint.Scheme != "unix" {
			continue
		}
		if _, err := os.Stat(endpoint.Path); err != nil {
			return fmt.Errorf("no etcd serves %s: %w (for the data directory of an ipam-standalone that does not run, use ipam-standalone audit)", server, err)
		}
	}
	return nil
}

// AuditCommand returns the command that compares objects with claims. It calls open for the etcd to read, and the function
// that comes with it at the end.
func AuditCommand(ctx context.Context, open func() (*genericoptions.EtcdOptions, func(), error)) *cobra.Command {
	output, repair := "", false
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Compare the objects in etcd with their claims",
		Long: "audit reads all objects and claims at one revision of etcd and prints every difference. It exits with 1 if " +
			"there are any. It changes nothing, unless --repair is set; a server may run meanwhile.",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("unknown output %q, must be json or nothing", output)
			}
			etcd, done, err := open()
			if err != nil {
				return err
			}
			defer done()
			return audit(ctx, etcd, output, repair, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", output, "json, or nothing for a table.")
	cmd.Flags().BoolVar(&repair, "repair", repair, "Mend what can be mended in one way only, and print what is left.")
	return cmd
}

func audit(ctx context.Context, etcd *genericoptions.EtcdOptions, output string, repair bool, out io.Writer) error {
	if err := utilerrors.NewAggregate(etcd.Validate()); err != nil {
		return err
	}
	store, err := apiserver.OpenStore(etcd)
	if err != nil {
		return err
	}
	defer store.Close()

	var report auditReport
	if repair {
		report.Mended, report.Differences, err = store.Repair(ctx)
	} else {
		report.Differences, err = store.Audit(ctx)
	}
	if err != nil {
		return err
	}
	if err := report.print(out, output); err != nil {
		return err
	}
	if n := len(report.Differences); n > 0 {
		return fmt.Errorf("%d differences between objects and claims", n)
	}
	return nil
}

func (r auditReport) print(out io.Writer, output string) error {
	if output == "json" {
		if r.Differences == nil {
			r.Differences = []claims.Difference{}
		}
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	if len(r.Mended) > 0 {
		fmt.Fprintf(out, "Mended:\n")
		if err := printDifferences(out, r.Mended); err != nil {
			return err
		}
	}
	if len(r.Differences) == 0 {
		fmt.Fprintln(out, "Objects and claims agree.")
		return nil
	}
	return printDifferences(out, r.Differences)
}

func printDifferences(out io.Writer, differences []claims.Difference) error {
	table := &metav1.Table{}
	for _, name := range []string{"Kind", "Namespace", "Name", "Parent", "Prefix", "Message"} {
		table.ColumnDefinitions = append(table.ColumnDefinitions, metav1.TableColumnDefinition{Name: name, Type: "string"})
	}
	for _, d := range differences {
		table.Rows = append(table.Rows, metav1.TableRow{
			Cells: []any{string(d.Kind), d.Namespace, d.Name, d.Parent, d.Prefix, d.Message},
		})
	}
	return printers.NewTablePrinter(printers.PrintOptions{}).PrintObj(table, out)
}
