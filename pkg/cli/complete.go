// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// completionTimeout is how long a shell waits for names from the server.
	completionTimeout = 3 * time.Second
	// maxCompletions is the number of names that a shell gets.
	maxCompletions = 1000
)

// completion is the function of cobra that completes an argument.
type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completePrefixes completes names of Prefixes, for at most the given number of arguments. 0 stands for the value of a
// flag, and a negative number for any number of arguments.
func (s *session) completePrefixes(arguments int) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if arguments > 0 && len(args) >= arguments {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return s.complete(cmd, func(ctx context.Context, c *clients) ([]string, error) {
			list, err := c.ipam.Prefixes(c.namespace).List(ctx, metav1.ListOptions{Limit: maxCompletions})
			if err != nil {
				return nil, err
			}
			var names []string
			for i := range list.Items {
				if name := list.Items[i].Name; arguments == 0 || !slices.Contains(args, name) {
					names = append(names, name)
				}
			}
			return names, nil
		})
	}
}

// complete returns names from the server. If it cannot be asked, there are none.
func (s *session) complete(cmd *cobra.Command, names func(context.Context, *clients) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	c, err := s.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, err := names(ctx, c)
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeFlags completes the values of the flags that all commands have.
func (s *session) completeFlags(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("namespace", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return s.complete(cmd, func(ctx context.Context, c *clients) ([]string, error) { return c.namespaces(ctx) })
	})
	_ = cmd.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		config, err := s.config.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for name := range config.Contexts {
			names = append(names, name)
		}
		slices.Sort(names)
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	for _, sub := range cmd.Commands() {
		if sub.Flags().Lookup("output") != nil {
			_ = sub.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
				append(slices.Clone(formats), "jsonpath=", "go-template=", "custom-columns="), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
		}
	}
}
