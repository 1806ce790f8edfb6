// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (s *session) newExportCommand() *cobra.Command {
	format := "csv"
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the Prefixes as CSV or YAML that import reads",
		Long: "Write the Prefixes of a namespace as CSV or YAML that import reads. A child that was allocated by its length has the prefix " +
			"that it got, so an import creates the same Prefixes again.\n\n" +
			"Prefixes that are being deleted, PrefixAllocations that were made without a Prefix, and PrefixPolicies are left out. CSV has " +
			"the columns that import names, so of the annotations it has only the description.",
		Example: "  kubectl ipam export > plan.csv\n  kubectl ipam export -A -o yaml > plan.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "csv" && format != "yaml" {
				return exitf(ExitUsage, "unknown output format %q: use csv or yaml", format)
			}
			return s.export(cmd.Context(), format == "csv")
		},
	}
	s.addScopeFlags(cmd)
	cmd.Flags().StringVarP(&format, "output", "o", format, "Format: csv or yaml.")
	return cmd
}

// export writes the Prefixes, page by page.
func (s *session) export(ctx context.Context, asCSV bool) error {
	if _, err := s.parseSelector(); err != nil {
		return err
	}
	out := s.machineOut()
	w := csv.NewWriter(out)
	documents := 0
	if asCSV {
		if err := w.Write(csvColumns); err != nil {
			return err
		}
	}
	exporting := s.newProgress("Reading", 0)
	defer exporting.end()
	left := 0
	err := s.eachNamespace(ctx, s.allNamespaces, func(namespace string) error {
		return s.clients.eachPrefixIn(ctx, namespace, metav1.ListOptions{LabelSelector: s.selector}, func(p *v1alpha1.Prefix) error {
			exporting.step()
			if p.DeletionTimestamp != nil {
				left++
				return nil
			}
			if asCSV {
				return writeCSVLine(w, p)
			}
			clean := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, Annotations: p.Annotations}, Spec: p.Spec}
			clean.GetObjectKind().SetGroupVersionKind(kindOf(v1alpha1.PrefixKind))
			if documents++; documents > 1 {
				if _, err := io.WriteString(out, "---\n"); err != nil {
					return err
				}
			}
			return printYAML(out, clean)
		})
	})
	if err != nil {
		return err
	}
	if w.Flush(); w.Error() != nil {
		return fmt.Errorf("write: %w", w.Error())
	}
	if left > 0 {
		s.say("%d Prefixes that are being deleted are left out.", left)
	}
	return s.sayAlone(ctx)
}

// sayAlone says how many PrefixAllocations hold space and were made without a Prefix.
func (s *session) sayAlone(ctx context.Context) error {
	if s.selector != "" {
		return nil
	}
	alone := 0
	opts := metav1.ListOptions{LabelSelector: "!" + v1alpha1.RequesterUIDLabel}
	err := s.eachNamespace(ctx, s.allNamespaces, func(namespace string) error {
		return s.clients.eachAllocationIn(ctx, namespace, opts, func(a *v1alpha1.PrefixAllocation) error {
			if a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated {
				alone++
			}
			return nil
		})
	})
	if apierrors.IsForbidden(err) {
		s.denied = true
		s.say("You may not read prefixallocations, so whether some hold space without a Prefix is not known.")
		return nil
	}
	if alone > 0 {
		s.say("%d PrefixAllocations that were made without a Prefix are left out.", alone)
	}
	return err
}
