// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package cli implements the commands of the kubectl plugin kubectl-ipam.
//
// Data goes to standard output, everything else to standard error. The exit codes are those of ExitCode. Text from the
// server never contains control characters when it is printed for a person.
package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/rest"
)

// Options are what the plugin depends on. Everything but the streams is optional.
type Options struct {
	genericiooptions.IOStreams
	// Now returns the time from which ages are counted.
	Now func() time.Time
	// IsTerminal reports whether a stream is a terminal.
	IsTerminal func(stream any) bool
	// AllowsColor reports whether text that is written to a stream may have colors.
	AllowsColor func(stream io.Writer) bool
	// WrapConfig changes the configuration of the client.
	WrapConfig func(*rest.Config) *rest.Config
}

// session is one invocation of the plugin: its streams, its flags, and its connection.
type session struct {
	Options
	config *genericclioptions.ConfigFlags

	// The values of flags that several commands have.
	allNamespaces bool
	selector      string
	output        string
	quiet         bool
	yes           bool
	watch         bool

	clients *clients
	// said has the lines that have been said. It is nil unless each is said only once.
	said map[string]bool
	// readable are the namespaces of which it has been said that only they may be read.
	readable string
	// denied is set when a part of what was asked for may not be read.
	denied bool
}

// newSession returns a session.
func newSession(o Options) *session {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.IsTerminal == nil {
		o.IsTerminal = func(stream any) bool { return printers.IsTerminal(stream) }
	}
	if o.AllowsColor == nil {
		// It knows NO_COLOR.
		o.AllowsColor = printers.AllowsColorOutput
	}
	errOut := plaintext.NewWriter(o.ErrOut)
	config := genericclioptions.NewConfigFlags(true).WithWarningPrinter(genericiooptions.IOStreams{In: o.In, Out: o.Out, ErrOut: errOut})
	s := &session{Options: o, config: config}
	handler := &warnings{session: s, seen: map[string]bool{}}
	config.WithWrapConfigFn(func(c *rest.Config) *rest.Config {
		// All clients print the warnings of the server in this way, also those for discovery and those of "ui".
		c.WarningHandler = handler
		if o.WrapConfig != nil {
			c = o.WrapConfig(c)
		}
		return c
	})
	return s
}

// NewCommand returns the command with all its subcommands.
func NewCommand(streams genericiooptions.IOStreams) *cobra.Command {
	return newSession(Options{IOStreams: streams}).newCommand()
}

// Run runs the plugin with the arguments of its command line, and returns the exit code.
func (o Options) Run(ctx context.Context, args []string) ExitCode {
	return newSession(o).run(ctx, args)
}

// run runs the plugin once.
func (s *session) run(ctx context.Context, args []string) ExitCode {
	cmd := s.newCommand()
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	code := codeOf(err)
	if err != nil {
		s.say("error: %v", err)
	}
	if code == ExitDone && s.denied {
		code = ExitForbidden
	}
	return code
}

// newCommand returns the command with all its subcommands.
func (s *session) newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kubectl-ipam",
		Short: "See address space and act on it",
		Long: "kubectl ipam shows the Prefixes of the API group ipam.ironcore.dev as the address space that they are, and " +
			"requests and releases parts of it.",
		Version:           version.Get(),
		Args:              usage(cobra.NoArgs),
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl ipam"},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetIn(s.In)
	cmd.SetOut(s.Out)
	cmd.SetErr(plaintext.NewWriter(s.ErrOut))
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exitf(ExitUsage, "%w\nSee '%s --help'", err, cmd.CommandPath())
	})
	s.config.AddFlags(cmd.PersistentFlags())
	for _, newSubcommand := range []func() *cobra.Command{
		s.newTreeCommand, s.newShowCommand, s.newWhoCommand, s.newWhyCommand, s.newFreeCommand, s.newMapCommand, s.newClaimCommand,
		s.newReleaseCommand, s.newReserveCommand, s.newUnreserveCommand, s.newCloseCommand, s.newOpenCommand, s.newShareCommand, s.newUnshareCommand, s.newCheckCommand,
		s.newExportCommand, s.newImportCommand,
		s.newUICommand,
	} {
		sub := newSubcommand()
		sub.Args = usage(sub.Args)
		cmd.AddCommand(sub)
	}
	s.completeFlags(cmd)
	return cmd
}

// usage returns a check of arguments whose errors have the exit code ExitUsage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return exitf(ExitUsage, "%w\nSee '%s --help'", err, cmd.CommandPath())
		}
		return nil
	}
}

// addScopeFlags adds the flags that select Prefixes.
func (s *session) addScopeFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&s.allNamespaces, "all-namespaces", "A", s.allNamespaces, "Read all namespaces.")
	cmd.Flags().StringVarP(&s.selector, "selector", "l", s.selector, "Label selector.")
}

// addOutputFlag adds the flag for the format.
func (s *session) addOutputFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&s.output, "output", "o", "table",
		"Format: table, wide, json, yaml, name, jsonpath=TEMPLATE, go-template=TEMPLATE or custom-columns=SPEC.")
}

// addYesFlag adds the flag that answers questions.
func (s *session) addYesFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&s.yes, "yes", "y", false, "Do not ask.")
}

// addQuietFlag adds the flag that reduces the output to the result.
func (s *session) addQuietFlag(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVarP(&s.quiet, "quiet", "q", false, "Print only "+what+".")
}

// say prints a line for a person to standard error. Control characters and line breaks in the arguments are escaped, those
// in the format are not.
func (s *session) say(format string, args ...any) {
	if line := fmt.Sprintf(format, escaped(args)...); s.sayOnce(line) {
		fmt.Fprintln(plaintext.NewWriter(s.ErrOut), line)
	}
}

// warnings prints each warning of the server once.
type warnings struct {
	*session
	mu   sync.Mutex
	seen map[string]bool
}

// maxWarnings is the number of different warnings that are printed.
const maxWarnings = 1000

// HandleWarningHeader implements rest.WarningHandler. Warnings have the code 299.
func (w *warnings) HandleWarningHeader(code int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code == 299 && text != "" && !w.seen[text] && len(w.seen) < maxWarnings {
		w.seen[text] = true
		w.say("Warning: %s", text)
	}
}

// note is like say, unless the flag --quiet is set.
func (s *session) note(format string, args ...any) {
	if !s.quiet {
		s.say(format, args...)
	}
}
