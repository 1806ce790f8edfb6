// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// shareOptions are the namespaces that the command share names.
type shareOptions struct {
	names    []string
	selector string
	all      bool
}

func (s *session) newShareCommand() *cobra.Command {
	o, with := &policyOptions{}, &shareOptions{}
	cmd := &cobra.Command{
		Use:   "share NAME",
		Short: "Let children of other namespaces be allocated from a Prefix",
		Long: "Let children of other namespaces be allocated from a Prefix: of those that --with names, those that --namespace-selector " +
			"selects, or --all. The rule is in a PrefixPolicy with the name of the Prefix, as those of the command reserve. One " +
			"PrefixPolicy shares in one way; names are added to those that it has.",
		Example: "  kubectl ipam share office --with team-a,team-b\n  kubectl ipam share office --namespace-selector tier=web",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dryRun, err := o.complete(s)
			if err != nil {
				return err
			}
			sharing, err := with.parse()
			if err != nil {
				return err
			}
			_, p, err := s.get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.changePolicy(cmd.Context(), o, dryRun, p, func(spec *v1alpha1.PrefixPolicySpec) error {
				spec.SharedWith, err = addSharing(spec.SharedWith, sharing)
				if err != nil {
					return exitf(ExitConflict, "the PrefixPolicy shares %s in another way: use --policy with another name, or unshare first", p.Name)
				}
				return nil
			})
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	cmd.Flags().StringSliceVar(&with.names, "with", nil, "Names of namespaces, such as team-a,team-b.")
	cmd.Flags().StringVar(&with.selector, "namespace-selector", "", "Label selector of namespaces. It needs an API server in a cluster.")
	cmd.Flags().BoolVar(&with.all, "all", false, "All namespaces.")
	addPolicyFlags(cmd, o)
	s.addDryRunFlags(cmd, o)
	return cmd
}

// parse returns the rule that the options ask for.
func (o *shareOptions) parse() (*v1alpha1.PrefixSharing, error) {
	ways := 0
	for _, set := range []bool{len(o.names) > 0, o.selector != "", o.all} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		return nil, exitf(ExitUsage, "set one of --with, --namespace-selector and --all")
	}
	sharing := &v1alpha1.PrefixSharing{Namespaces: o.names, All: o.all}
	if o.selector != "" {
		selector, err := metav1.ParseToLabelSelector(o.selector)
		if err != nil {
			return nil, exitf(ExitUsage, "--namespace-selector: %w", err)
		}
		sharing.NamespaceSelector = selector
	}
	return sharing, nil
}

var errOtherSharing = errors.New("the rule shares in another way")

// addSharing returns a rule with the namespaces of two. It returns errOtherSharing if they share in different ways: to replace
// what is there would take back what somebody else has shared.
func addSharing(there, more *v1alpha1.PrefixSharing) (*v1alpha1.PrefixSharing, error) {
	sum := &v1alpha1.PrefixSharing{NamespaceSelector: more.NamespaceSelector, All: more.All}
	if there != nil {
		if len(there.Namespaces) > 0 != (len(more.Namespaces) > 0) || there.All != more.All || !equality.Semantic.DeepEqual(there.NamespaceSelector, more.NamespaceSelector) {
			return there, errOtherSharing
		}
		sum.Namespaces = slices.Clone(there.Namespaces)
	}
	for _, name := range more.Namespaces {
		if !slices.Contains(sum.Namespaces, name) {
			sum.Namespaces = append(sum.Namespaces, name)
		}
	}
	return sum, nil
}

func (s *session) newUnshareCommand() *cobra.Command {
	o := &policyOptions{}
	var with []string
	cmd := &cobra.Command{
		Use:   "unshare NAME",
		Short: "Take back what the command share allowed",
		Long: "Take back that children of other namespaces may be allocated from a Prefix, by changing all PrefixPolicies that share it. " +
			"What is allocated stays. With --with, only these namespaces are taken from the lists of names. A PrefixPolicy that has no " +
			"rules any more is deleted.",
		Example: "  kubectl ipam unshare office\n  kubectl ipam unshare office --with team-b",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dryRun, err := o.complete(s)
			if err != nil {
				return err
			}
			found, stays := false, false
			return s.changePolicies(cmd.Context(), o, dryRun, args[0], func(spec *v1alpha1.PrefixPolicySpec) bool {
				has := spec.SharedWith
				switch {
				case has == nil:
					return false
				case len(with) == 0:
					spec.SharedWith, found = nil, true
					return true
				case has.All || has.NamespaceSelector != nil:
					stays = true
					return false
				}
				left := slices.DeleteFunc(slices.Clone(has.Namespaces), func(name string) bool { return slices.Contains(with, name) })
				if len(left) == len(has.Namespaces) {
					return false
				}
				found = true
				if spec.SharedWith = (&v1alpha1.PrefixSharing{Namespaces: left}); len(left) == 0 {
					spec.SharedWith = nil
				}
				return true
			}, func() error {
				switch {
				case stays:
					return exitf(ExitConflict, "a PrefixPolicy shares %s with all namespaces, or with a selector: use unshare without --with", args[0])
				case !found:
					return exitf(ExitNotFound, "no PrefixPolicy shares %s so", args[0])
				}
				return nil
			})
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	cmd.Flags().StringSliceVar(&with, "with", nil, "Names of namespaces. If unset, nothing is shared any more.")
	s.addDryRunFlags(cmd, o)
	return cmd
}
