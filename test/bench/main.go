// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the programs of this repository: compared with other programs and libraries, at different
// sizes, and in absolute figures. All sides of a comparison are measured in one run, in turn.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

func main() {
	quiet()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// quiet discards the log of the servers and clients in this process.
func quiet() {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(io.Discard)
}

// options are the options of a run.
type options struct {
	// rows contains the names of the rows to measure, or their first letters. If empty, all rows are measured.
	rows []string
	list bool
	// children is the size of the rows that begin with S.
	children int
	// scale is the factor for the counts of all other rows.
	scale float64
	// json selects JSON instead of protobuf for users.
	json      bool
	output    string
	writeDocs bool
	// against is the commit whose programs are compared with those of this checkout, and turns the number of turns.
	against string
	turns   int
}

const (
	// fullChildren is the size that the goals of the rows that begin with S are for.
	fullChildren = 1_000_000
	// mostChildren is the limit of children. It leaves as much space free as they take.
	mostChildren = scaleParents * childrenOfParent / 2
)

func newCommand() *cobra.Command {
	o := options{children: fullChildren, scale: 1, output: "table", turns: 3}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the programs of this repository",
		Long: "bench starts what it needs, measures, and prints a table. It exits with 1 if something could not be " +
			"measured, but not if a goal is not met.\n\n" + compareHelp,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			selected, err := selectRows(o.rows)
			if err != nil {
				return err
			}
			if o.list {
				return list(selected, cmd.OutOrStdout())
			}
			if o.against != "" {
				return compare(cmd.Context(), o, selected, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return run(cmd.Context(), o, selected, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.AddCommand(newListCommand())
	fs := cmd.Flags()
	fs.StringSliceVar(&o.rows, "rows", o.rows, "Rows to measure, as E1, or as E for all that begin so. All if empty.")
	fs.BoolVar(&o.list, "list", o.list, "List the rows and how each is measured, and measure nothing.")
	fs.IntVar(&o.children, "children", o.children, "How many children there are in the rows S1 to S4.")
	fs.Float64Var(&o.scale, "scale", o.scale, "By what to multiply the counts of all other rows, to see quickly whether they work.")
	fs.BoolVar(&o.json, "json", o.json, "Have users speak JSON to the servers instead of protobuf.")
	fs.StringVarP(&o.output, "output", "o", o.output, "table or json.")
	fs.BoolVar(&o.writeDocs, "write-docs", o.writeDocs, "Write what was measured into docs/performance.md, too.")
	fs.StringVar(&o.against, "against", o.against, "Compare the programs of this checkout with those of this commit, branch or tag.")
	fs.IntVar(&o.turns, "turns", o.turns, "How often each of the two builds is measured with --against.")
	return cmd
}

func (o options) validate() error {
	switch {
	case o.output != "table" && o.output != "json":
		return fmt.Errorf("unknown output %q, must be table or json", o.output)
	case o.scale <= 0 || o.scale > 1:
		return fmt.Errorf("--scale must be above 0 and at most 1, not %v", o.scale)
	case o.children < 1000 || o.children > mostChildren:
		return fmt.Errorf("--children must be from 1000 to %d, not %d", mostChildren, o.children)
	case o.writeDocs && o.scale < 1:
		return errors.New("--write-docs is for figures of full size, without --scale")
	case o.writeDocs && o.against != "":
		return errors.New("--write-docs is for figures of this checkout, without --against")
	case o.turns < 1:
		return fmt.Errorf("--turns must be at least 1, not %d", o.turns)
	}
	return nil
}

// run measures the selected rows and writes the report.
func run(ctx context.Context, o options, selected []measurement, out, progress io.Writer) (err error) {
	// testing.Benchmark reads its options from flags.
	testing.Init()
	if err := flag.Set("test.benchtime", time.Duration(o.scale*float64(time.Second)).String()); err != nil {
		return err
	}
	r, err := newRunner(ctx, o, measurements, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	var failed []error
	for _, m := range selected {
		if err := r.measure(m); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
			fmt.Fprintf(progress, "%s could not be measured: %v\n", m.name, err)
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	r.progress.done()
	results := r.results(selected)
	if o.writeDocs {
		failed = append(failed, r.writeDocs(results))
	}
	return errors.Join(append(failed, writeReport(results, header, o.output, out))...)
}
