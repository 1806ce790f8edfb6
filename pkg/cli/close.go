// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/spf13/cobra"
)

func (s *session) newCloseCommand() *cobra.Command {
	o := &policyOptions{}
	cmd := &cobra.Command{
		Use:   "close NAME",
		Short: "Let nothing new be allocated from a Prefix",
		Long: "Let nothing new be allocated from a Prefix. What is allocated stays. The rule is in a PrefixPolicy with the name of the " +
			"Prefix, as those of the command reserve.",
		Example: "  kubectl ipam close office",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dryRun, err := o.complete(s)
			if err != nil {
				return err
			}
			_, p, err := s.get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.changePolicy(cmd.Context(), o, dryRun, p, func(spec *v1alpha1.PrefixPolicySpec) error {
				spec.Closed = true
				return nil
			})
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	addPolicyFlags(cmd, o)
	s.addDryRunFlags(cmd, o)
	return cmd
}

func (s *session) newOpenCommand() *cobra.Command {
	o := &policyOptions{}
	cmd := &cobra.Command{
		Use:   "open NAME",
		Short: "Open a Prefix that was closed",
		Long: "Let children be allocated from a Prefix again, by changing all PrefixPolicies that close it. A PrefixPolicy that has no " +
			"rules any more is deleted.",
		Example: "  kubectl ipam open office",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dryRun, err := o.complete(s)
			if err != nil {
				return err
			}
			opened := false
			return s.changePolicies(cmd.Context(), o, dryRun, args[0], func(spec *v1alpha1.PrefixPolicySpec) bool {
				closed := spec.Closed
				spec.Closed = false
				opened = opened || closed
				return closed
			}, func() error {
				if !opened {
					return exitf(ExitNotFound, "no PrefixPolicy closes %s", args[0])
				}
				return nil
			})
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	s.addDryRunFlags(cmd, o)
	return cmd
}
