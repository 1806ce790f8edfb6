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
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/cli-runtime/pkg/printers"
)

// auditReport is the JSON output of the command.
type auditReport struct {
	// Repaired lists the differences that --repair has repaired.
	Repaired []audit.Difference `json:"repaired,omitempty"`
	// Differences lists the remaining differences.
	Differences []audit.Difference `json:"differences"`
}

// newAuditCommand returns the audit command with flags for the connection to etcd.
func newAuditCommand(ctx context.Context) *cobra.Command {
	etcd := apiserver.NewOptions().Recommended.Etcd
	cmd := AuditCommand(ctx, func() (*genericoptions.EtcdOptions, func(), error) { return etcd, func() {}, checkSockets(etcd) })
	etcd.AddFlags(cmd.Flags())
	return cmd
}

// checkSockets fails if an etcd endpoint is a unix socket that does not exist. The etcd client would retry for a long
// time.
func checkSockets(etcd *genericoptions.EtcdOptions) error {
	for _, server := range etcd.StorageConfig.Transport.ServerList {
		endpoint, err := url.Parse(server)
		if err != nil || endpoint.Scheme != "unix" {
			continue
		}
		if _, err := os.Stat(endpoint.Path); err != nil {
			return fmt.Errorf("cannot reach etcd at %s: %w (to audit the data directory of an ipam-standalone that is not running, use 'ipam-standalone audit')", server, err)
		}
	}
	return nil
}

// AuditCommand returns a command that compares the objects in etcd with their claims. It calls open for the etcd to
// read. Unless open fails, it calls the function that open returned when it is done.
func AuditCommand(ctx context.Context, open func() (*genericoptions.EtcdOptions, func(), error)) *cobra.Command {
	output, repair := "", false
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Compare the objects in etcd with their claims",
		Long: "audit compares all objects in etcd with their claims and prints all differences. The exit code is 1 if there are " +
			"any. Without --repair it changes nothing. The API servers can keep running.",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("unknown output format %q, must be json", output)
			}
			etcd, done, err := open()
			if err != nil {
				return err
			}
			defer done()
			return runAudit(ctx, etcd, output, repair, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", output, "Output format: json. If empty, a table.")
	cmd.Flags().BoolVar(&repair, "repair", repair, "Repair unambiguous differences and print the rest. Move objects and claims that cannot be decoded to lost+found in etcd.")
	return cmd
}

func runAudit(ctx context.Context, etcd *genericoptions.EtcdOptions, output string, repair bool, out io.Writer) error {
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
		report.Repaired, report.Differences, err = store.Repair(ctx)
	} else {
		report.Differences, err = store.Audit(ctx, audit.FullSpeed, audit.LeftoverGrace)
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
			r.Differences = []audit.Difference{}
		}
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	if len(r.Repaired) > 0 {
		fmt.Fprintf(out, "Repaired:\n")
		if err := printDifferences(out, r.Repaired); err != nil {
			return err
		}
	}
	if len(r.Differences) == 0 {
		fmt.Fprintln(out, "Objects and claims agree.")
		return nil
	}
	return printDifferences(out, r.Differences)
}

func printDifferences(out io.Writer, differences []audit.Difference) error {
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
