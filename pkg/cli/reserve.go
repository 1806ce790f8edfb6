// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/rules"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/retry"
)

// policyOptions are the flags of the commands that write policies.
type policyOptions struct {
	policy, selector, reason string
	dryRun                   string
}

// rangeHelp is the help text for the arguments of reserve and unreserve.
const rangeHelp = "RANGE is a CIDR, an address, two addresses as FROM-TO, or edges for the network and broadcast addresses."

func (s *session) newReserveCommand() *cobra.Command {
	o := &policyOptions{}
	cmd := &cobra.Command{
		Use:   "reserve NAME RANGE...",
		Short: "Keep space of a Prefix from being chosen automatically",
		Long: "Keep space of a Prefix from being chosen automatically. Who asks for exactly it gets it, and what is allocated stays. " +
			rangeHelp + "\n\n" +
			"The reservations are in a PrefixPolicy with the name of the Prefix, which is created if there is none. It selects the Prefix " +
			"by all of its labels, and others that have the same. Use --selector to select by other labels.",
		Example: "  kubectl ipam reserve office edges 10.20.0.1-10.20.0.9 --reason routers\n  kubectl ipam reserve office 10.20.0.128/25 --dry-run=client -o yaml",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.reserve(cmd.Context(), o, args[0], args[1:])
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	addPolicyFlags(cmd, o)
	cmd.Flags().StringVar(&o.reason, "reason", "", "What the space is reserved for.")
	s.addDryRunFlags(cmd, o)
	return cmd
}

func (s *session) newUnreserveCommand() *cobra.Command {
	o := &policyOptions{}
	cmd := &cobra.Command{
		Use:   "unreserve NAME RANGE...",
		Short: "Take back reservations of a Prefix",
		Long: "Take back reservations of a Prefix, in the PrefixPolicies that select it. " + rangeHelp + " A " +
			"PrefixPolicy that has no rules any more is deleted.",
		Example: "  kubectl ipam unreserve office 10.20.0.1-10.20.0.9",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.unreserve(cmd.Context(), o, args[0], args[1:])
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	s.addDryRunFlags(cmd, o)
	return cmd
}

// addPolicyFlags adds the flags of the commands that create a policy.
func addPolicyFlags(cmd *cobra.Command, o *policyOptions) {
	cmd.Flags().StringVar(&o.policy, "policy", "", "Name of the PrefixPolicy. If unset, it is the name of the Prefix.")
	cmd.Flags().StringVarP(&o.selector, "selector", "l", "", "Label selector of a new PrefixPolicy. If unset, it is the labels of the Prefix.")
}

// addDryRunFlags adds --dry-run and --output, for the commands that write a policy.
func (s *session) addDryRunFlags(cmd *cobra.Command, o *policyOptions) {
	cmd.Flags().StringVar(&o.dryRun, "dry-run", "none", "none, server (send the request, but store nothing), or client (only print the PrefixPolicy).")
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{"none", "server", "client"}, cobra.ShellCompDirectiveNoFileComp))
	s.addOutputFlag(cmd)
}

// complete checks the flags and returns the options of a write.
func (o *policyOptions) complete(s *session) ([]string, error) {
	if err := s.checkOutput(); err != nil {
		return nil, err
	}
	switch o.dryRun {
	case "none", "client":
		return nil, nil
	case "server":
		return []string{metav1.DryRunAll}, nil
	}
	return nil, exitf(ExitUsage, "--dry-run must be none, server or client")
}

// parseReservation parses an argument.
func parseReservation(arg, reason string) (v1alpha1.PrefixReservation, error) {
	r := v1alpha1.PrefixReservation{Reason: reason}
	from, to, isRange := strings.Cut(arg, "-")
	switch {
	case arg == "edges":
		r.Edges = true
	case isRange && arg != "-":
		r.From, r.To = from, to
	case strings.Contains(arg, "/"):
		r.CIDR = arg
	default:
		addr, err := netip.ParseAddr(arg)
		if err != nil {
			return r, exitf(ExitUsage, "%q is neither a CIDR, an address, a range FROM-TO, nor edges", arg)
		}
		r.CIDR = netip.PrefixFrom(addr, addr.BitLen()).String()
	}
	if _, err := rangeOf(r); err != nil {
		return r, exitf(ExitUsage, "%s: %w", arg, err)
	}
	return r, nil
}

// sameRange reports whether two reservations mean the same addresses.
func sameRange(a, b v1alpha1.PrefixReservation) bool {
	rangeA, errA := rangeOf(a)
	rangeB, errB := rangeOf(b)
	return errA == nil && errB == nil && a.Edges == b.Edges && slices.Equal(rangeA, rangeB)
}

// reserve adds reservations to a policy.
func (s *session) reserve(ctx context.Context, o *policyOptions, name string, args []string) error {
	dryRun, err := o.complete(s)
	if err != nil {
		return err
	}
	var wanted []v1alpha1.PrefixReservation
	for _, arg := range args {
		r, err := parseReservation(arg, o.reason)
		if err != nil {
			return err
		}
		wanted = append(wanted, r)
	}
	_, p, err := s.get(ctx, name)
	if err != nil {
		return err
	}
	if prefix, ok := heldBy(p); ok {
		for i, r := range wanted {
			if inside, err := rangeOf(r); err == nil && !r.Edges && !slices.ContainsFunc(inside, prefix.Overlaps) {
				return exitf(ExitConflict, "%s is not in %s (%s), so to reserve it would change nothing", args[i], name, prefix)
			}
		}
	}
	return s.changePolicy(ctx, o, dryRun, p, func(spec *v1alpha1.PrefixPolicySpec) error {
		for _, r := range wanted {
			if i := slices.IndexFunc(spec.Reserved, func(has v1alpha1.PrefixReservation) bool { return sameRange(has, r) }); i < 0 {
				spec.Reserved = append(spec.Reserved, r)
			} else if o.reason != "" {
				spec.Reserved[i].Reason = o.reason
			}
		}
		return nil
	})
}

// changePolicy changes the policy for a Prefix, which it creates if there is none, and prints it. An error of change ends it
// before anything is written.
func (s *session) changePolicy(ctx context.Context, o *policyOptions, dryRun []string, p *v1alpha1.Prefix, change func(*v1alpha1.PrefixPolicySpec) error) error {
	policies := s.clients.ipam.PrefixPolicies(p.Namespace)
	wanted, err := newPolicy(p, cmp.Or(o.policy, p.Name), o.selector)
	if err != nil && o.selector != "" {
		return err
	}
	noSelector := err
	var written *v1alpha1.PrefixPolicy
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		existing, err := policies.Get(ctx, cmp.Or(o.policy, p.Name), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) && noSelector != nil:
			return noSelector
		case apierrors.IsNotFound(err):
			written = wanted.DeepCopy()
			if err = change(&written.Spec); err == nil && o.dryRun != "client" {
				written, err = policies.Create(ctx, written, metav1.CreateOptions{DryRun: dryRun, FieldManager: fieldManager})
			}
			return err
		case err != nil:
			return err
		}
		selector, err := metav1.LabelSelectorAsSelector(existing.Spec.PrefixSelector)
		switch {
		case existing.DeletionTimestamp != nil:
			return exitf(ExitConflict, "PrefixPolicy %s is being deleted: use --policy with another name, or try again", existing.Name)
		case err != nil || !selector.Matches(labels.Set(p.Labels)):
			return exitf(ExitConflict, "PrefixPolicy %s exists, and does not select %s: use --policy with another name", existing.Name, p.Name)
		case o.selector != "" && !equality.Semantic.DeepEqual(existing.Spec.PrefixSelector, wanted.Spec.PrefixSelector):
			return exitf(ExitConflict, "PrefixPolicy %s exists, and selects by %s: leave out --selector, or use --policy with another name", existing.Name, selector)
		}
		written = existing
		if err = change(&written.Spec); err == nil && o.dryRun != "client" {
			written, err = policies.Update(ctx, written, metav1.UpdateOptions{DryRun: dryRun, FieldManager: fieldManager})
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.printPolicy(o, written)
}

// newPolicy returns a policy that selects a Prefix.
func newPolicy(p *v1alpha1.Prefix, name, selector string) (*v1alpha1.PrefixPolicy, error) {
	created := &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: name}}
	if selector == "" {
		if len(p.Labels) == 0 {
			return nil, exitf(ExitConflict, "%s has no labels by which a PrefixPolicy could select it: give it one with 'kubectl label prefix %s -n %s KEY=VALUE'",
				p.Name, p.Name, p.Namespace)
		}
		created.Spec.PrefixSelector = &metav1.LabelSelector{MatchLabels: p.Labels}
		return created, nil
	}
	var err error
	if created.Spec.PrefixSelector, err = metav1.ParseToLabelSelector(selector); err != nil {
		return nil, exitf(ExitUsage, "--selector: %w", err)
	}
	if parsed, err := metav1.LabelSelectorAsSelector(created.Spec.PrefixSelector); err != nil || !parsed.Matches(labels.Set(p.Labels)) {
		return nil, exitf(ExitUsage, "--selector: it does not select %s, which has the labels %s", p.Name, labels.Set(p.Labels))
	}
	return created, nil
}

// unreserve removes reservations from the policies that select a Prefix.
func (s *session) unreserve(ctx context.Context, o *policyOptions, name string, args []string) error {
	dryRun, err := o.complete(s)
	if err != nil {
		return err
	}
	unwanted, found := make([]v1alpha1.PrefixReservation, len(args)), make([]bool, len(args))
	for i, arg := range args {
		if unwanted[i], err = parseReservation(arg, ""); err != nil {
			return err
		}
	}
	return s.changePolicies(ctx, o, dryRun, name, func(spec *v1alpha1.PrefixPolicySpec) bool {
		had := len(spec.Reserved)
		spec.Reserved = slices.DeleteFunc(spec.Reserved, func(has v1alpha1.PrefixReservation) bool {
			i := slices.IndexFunc(unwanted, func(r v1alpha1.PrefixReservation) bool { return sameRange(has, r) })
			if i >= 0 {
				found[i] = true
			}
			return i >= 0
		})
		return len(spec.Reserved) < had
	}, func() error {
		if i := slices.Index(found, false); i >= 0 {
			return exitf(ExitNotFound, "no PrefixPolicy that selects %s reserves %s", name, args[i])
		}
		return nil
	})
}

// changePolicies changes the policies that select a Prefix, and prints those that change reports to have changed. It
// deletes those that have no rules any more. Before anything is written, change has been called for each of them, and then
// check is. After a conflict, change is called again for what the policy has become.
func (s *session) changePolicies(ctx context.Context, o *policyOptions, dryRun []string, name string, change func(*v1alpha1.PrefixPolicySpec) bool, check func() error) error {
	c, p, err := s.get(ctx, name)
	if err != nil {
		return err
	}
	policies := c.ipam.PrefixPolicies(p.Namespace)
	var changed []*v1alpha1.PrefixPolicy
	err = eachPage(ctx, metav1.ListOptions{}, func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return policies.List(ctx, opts)
	}, func(obj runtime.Object) error {
		policy := obj.(*v1alpha1.PrefixPolicy)
		selector, err := metav1.LabelSelectorAsSelector(policy.Spec.PrefixSelector)
		if err == nil && selector.Matches(labels.Set(p.Labels)) {
			if policy = policy.DeepCopy(); change(&policy.Spec) {
				changed = append(changed, policy)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	for _, policy := range changed {
		read := true
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
			if !read {
				if policy, err = policies.Get(ctx, policy.Name, metav1.GetOptions{}); err != nil {
					return err
				}
				if !change(&policy.Spec) {
					return nil
				}
			}
			read = false
			return s.writeOrDelete(ctx, o, dryRun, policy)
		})
		// Whoever deleted it, or changed it in the same way, did what was asked for.
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// writeOrDelete writes a policy and prints it, or deletes it if it has no rules.
func (s *session) writeOrDelete(ctx context.Context, o *policyOptions, dryRun []string, policy *v1alpha1.PrefixPolicy) (err error) {
	policies := s.clients.ipam.PrefixPolicies(policy.Namespace)
	rules := policy.Spec.DeepCopy()
	rules.PrefixSelector = nil
	if equality.Semantic.DeepEqual(*rules, v1alpha1.PrefixPolicySpec{}) {
		if o.dryRun != "client" {
			preconditions := &metav1.Preconditions{UID: &policy.UID, ResourceVersion: &policy.ResourceVersion}
			if err := policies.Delete(ctx, policy.Name, metav1.DeleteOptions{DryRun: dryRun, Preconditions: preconditions}); err != nil {
				return err
			}
		}
		if o.dryRun == "none" {
			s.note("PrefixPolicy %s has no rules any more, and is deleted.", policy.Name)
		} else {
			s.note("PrefixPolicy %s would have no rules any more, and would be deleted.", policy.Name)
		}
		return nil
	}
	if o.dryRun != "client" {
		if policy, err = policies.Update(ctx, policy, metav1.UpdateOptions{DryRun: dryRun, FieldManager: fieldManager}); err != nil {
			return err
		}
	}
	return s.printPolicy(o, policy)
}

// printPolicy prints a policy. With --dry-run=client, it leaves out what the server adds to what it is sent.
func (s *session) printPolicy(o *policyOptions, p *v1alpha1.PrefixPolicy) error {
	if o.dryRun == "client" {
		p = &v1alpha1.PrefixPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, Annotations: p.Annotations}, Spec: p.Spec}
	}
	if !s.isTable() {
		return s.printObject(p.DeepCopy(), "PrefixPolicy")
	}
	r := result{columns: []column{{name: "POLICY"}, {name: "RULE"}, {name: "REASON"}}}
	for _, rule := range rules.Of(&p.Spec) {
		r.rows = append(r.rows, row{cells: []string{p.Name, rule.Text, orNone(rule.Reason)}})
	}
	return s.printTable(r)
}
