// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the programs of this repository: against other programs and libraries, against
// themselves at another size, and in figures of their own. All that is compared is measured in one run,
// taking turns.
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
	// A second signal ends it at once.
	context.AfterFunc(ctx, stop)
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// quiet drops what the servers and clients in this process log.
func quiet() {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	_ = flags.Set("logtostderr", "false")
	_ = flags.Set("stderrthreshold", "FATAL")
	klog.SetOutput(io.Discard)
}

// options are what can be said about a run.
type options struct {
	// rows are the names of the rows to measure, or letters that they begin with. None is all.
	rows []string
	list bool
	// children is the size of the rows that begin with S.
	children int
	// scale is by what the counts of all other rows are multiplied.
	scale float64
	// json has users speak JSON instead of protobuf.
	json      bool
	output    string
	writeDocs bool
	// against is the commit whose programs are compared with those of this checkout, in so many turns.
	against string
	turns   int
}

const (
	// fullChildren is the size that the goals of the rows that begin with S are for.
	fullChildren = 1_000_000
	// mostChildren leaves as much room as they take.
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

// run measures the rows that are selected and writes the report.
func run(ctx context.Context, o options, selected []measurement, out, progress io.Writer) (err error) {
	// testing.Benchmark takes its options from flags.
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
