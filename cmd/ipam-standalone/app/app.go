// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package app implements the command line of ipam-standalone.
package app

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/spf13/cobra"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

// NewCommand returns the command. It serves until ctx ends.
func NewCommand(ctx context.Context) *cobra.Command {
	options := standalone.NewOptions()
	samples := ""
	cmd := &cobra.Command{
		Use:   "ipam-standalone",
		Short: "Serve the API group ipam.ironcore.dev from one process",
		Long: "ipam-standalone runs the API server, the controllers and etcd in one process, for a laptop or a test. It serves on " +
			"the loopback interface only, issues its own certificates, and writes a kubeconfig for kubectl.",
		Version:      version.Get(),
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			quietUnlessVerbose(cmd, os.Stderr)
			return run(ctx, options, samples, cmd.OutOrStdout())
		},
	}
	all := cmd.PersistentFlags()
	all.StringVar(&options.DataDir, "data-dir", options.DataDir, "Directory for the database, the certificates and the kubeconfig.")
	all.Int64Var(&options.QuotaBytes, "quota-backend-bytes", options.QuotaBytes, "Maximum size of the database, in bytes. A full database refuses writes until 'ipam-standalone reclaim' has freed space.")
	fs := cmd.Flags()
	fs.IntVar(&options.Port, "secure-port", options.Port, "Port on 127.0.0.1 to serve HTTPS on. 0 selects a free port.")
	fs.StringSliceVar(&options.Controllers, "controllers", options.Controllers, fmt.Sprintf("Controllers to run: any of %q, or * for all.", manager.Names()))
	fs.StringVar(&options.Strategy, "strategy", options.Strategy, "Strategy to choose a parent: Pack prefers the one with the smallest free block that fits, Spread the one with the most free addresses.")
	fs.StringVar(&options.AdmissionConfigFile, "admission-control-config-file", options.AdmissionConfigFile, "File with admission control configuration.")
	fs.StringVar(&samples, "samples", samples, "File or directory of manifests. Their objects are created at start if they do not exist.")
	cmd.AddCommand(newAuditCommand(ctx, options), newReclaimCommand(ctx, options))
	return cmd
}

// quietUnlessVerbose makes a command log only warnings and errors to out, unless the flag -v is set.
func quietUnlessVerbose(cmd *cobra.Command, out io.Writer) {
	if v := cmd.Flags().Lookup("v"); v == nil || v.Value.String() != "0" {
		return
	}
	// If klog does not log to standard error, it writes each message to the output of its severity and to those of all
	// lower severities. So the output for warnings receives warnings and errors.
	klog.LogToStderr(false)
	for severity, out := range map[string]io.Writer{"INFO": io.Discard, "WARNING": out, "ERROR": io.Discard, "FATAL": io.Discard} {
		klog.SetOutputBySeverity(severity, out)
	}
	// gRPC logs failed connections as warnings. For the embedded etcd, they are expected while the process starts and
	// stops.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, out))
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	// Without this, klog would also copy errors to standard error. FATAL is a valid severity, so this cannot fail.
	_ = flags.Set("stderrthreshold", "FATAL")
}

func run(ctx context.Context, options *standalone.Options, samples string, out io.Writer) error {
	err := serve(ctx, options, samples, out)
	if ctx.Err() != nil {
		// The process was told to stop, possibly during its start, so errors are expected.
		return nil
	}
	return err
}

func serve(ctx context.Context, options *standalone.Options, samples string, out io.Writer) error {
	instance, err := standalone.Start(ctx, options)
	if err != nil {
		return err
	}
	defer instance.Close()
	fmt.Fprintf(out, "ipam-standalone is ready on %s, log in with --kubeconfig %s\n", instance.URL, instance.Kubeconfig)
	if samples != "" {
		if err := applySamples(ctx, instance.Client, samples, out); err != nil {
			return err
		}
	}
	return instance.Wait()
}
