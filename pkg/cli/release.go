// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

func (s *session) newReleaseCommand() *cobra.Command {
	timeout, now := 30*time.Second, false
	cmd := &cobra.Command{
		Use:   "release NAME...",
		Short: "Delete Prefixes, and first show what is allocated from them",
		Long: "Delete Prefixes, so that their space is free again, and wait until they are gone. A Prefix with children stays until " +
			"the last of them is gone, and nothing new is allocated from it meanwhile.\n\n" +
			"If a PrefixPolicy has a coolDown, the space is then kept for a Prefix of the same name. --now ends that, also for Prefixes " +
			"that were deleted before.\n\n" +
			"On a terminal, release shows what it deletes and asks. Otherwise it refuses to delete a Prefix that has children. " +
			"--yes does it in either case.",
		Example: "  kubectl ipam release lab\n  kubectl ipam release lab dmz --yes\n  kubectl ipam release printer --now",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout < 0 {
				return exitf(ExitUsage, "--timeout must not be negative")
			}
			if now && timeout == 0 {
				return exitf(ExitUsage, "--now needs a --timeout: what cools down does so only when the Prefix is gone")
			}
			return s.release(cmd.Context(), args, timeout, now)
		},
		ValidArgsFunction: s.completePrefixes(-1),
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "How long to wait until they are gone; 0 does not wait.")
	cmd.Flags().BoolVar(&now, "now", false, "Release the space at once, if it would cool down or does so already.")
	s.addYesFlag(cmd)
	s.addQuietFlag(cmd, "the names of what is deleted")
	return cmd
}

// followTimeout is how long release waits until the PrefixAllocation of a Prefix that is gone is gone, too, or cools down.
const followTimeout = 10 * time.Second

// maxListed is the number of objects that release and import list one by one.
const maxListed = 10

// release deletes Prefixes.
func (s *session) release(ctx context.Context, names []string, timeout time.Duration, now bool) error {
	plan, err := s.planRelease(ctx, names, now)
	if err != nil {
		return err
	}
	if err := s.confirmRelease(names, plan.dependents); err != nil {
		return err
	}
	for _, name := range plan.cooling {
		if _, err := s.endCooling(ctx, name, nil); err != nil {
			return err
		}
		s.printReleased(name)
	}
	for _, p := range plan.prefixes {
		err := s.clients.ipam.Prefixes(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var errs []error
	for _, p := range plan.prefixes {
		if timeout == 0 {
			s.note("%s is being deleted.", p.Name)
		} else if err := s.waitGone(timed, p); err != nil {
			if !wait.Interrupted(err) || ctx.Err() != nil {
				return err
			}
			errs = append(errs, exitf(ExitUnavailable, "%s is being deleted, but not gone after %v: 'kubectl ipam why %s -n %s' shows why", p.Name, timeout, p.Name, p.Namespace))
			continue
		} else if err := s.afterwards(ctx, p, now); err != nil {
			return err
		}
		s.printReleased(p.Name)
	}
	return errors.Join(errs...)
}

// printReleased prints the name of a Prefix as kubectl does.
func (s *session) printReleased(name string) {
	fmt.Fprintf(s.Out, "prefix.%s/%s\n", v1alpha1.GroupVersion.Group, plaintext.Escape(name))
}

// releasePlan is what release does.
type releasePlan struct {
	// prefixes are deleted.
	prefixes []*v1alpha1.Prefix
	// cooling are the names of Prefixes that were deleted before, and whose space cools down.
	cooling []string
	// dependents is the number of what is allocated from the prefixes, and is not deleted with them.
	dependents int
}

// planRelease finds out what release has to do, and says what stands on it.
func (s *session) planRelease(ctx context.Context, names []string, now bool) (*releasePlan, error) {
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	plan := &releasePlan{}
	for _, name := range names {
		p, err := c.ipam.Prefixes(c.namespace).Get(ctx, name, metav1.GetOptions{})
		if now && apierrors.IsNotFound(err) {
			kept, errKept := s.coolingFor(ctx, name, nil)
			if errKept != nil {
				return nil, errKept
			}
			if len(kept) > 0 {
				for _, c := range kept {
					s.note("%s is deleted: %s %s", name, c.prefix, c)
				}
				plan.cooling = append(plan.cooling, name)
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		dependents, err := s.describeRelease(ctx, p, names)
		if err != nil {
			return nil, err
		}
		plan.prefixes, plan.dependents = append(plan.prefixes, p), plan.dependents+dependents
	}
	return plan, nil
}

// describeRelease says what stands on a Prefix, and returns how much that is. What has one of the names is released, too, and
// does not count.
func (s *session) describeRelease(ctx context.Context, p *v1alpha1.Prefix, names []string) (dependents int, err error) {
	children, count, released, err := s.dependents(ctx, p, names)
	if err != nil {
		return 0, err
	}
	elsewhere, err := s.dependentsElsewhere(ctx, p, count+released)
	if err != nil {
		return 0, err
	}
	s.note("%s %s", p.Name, orNone(p.Spec.Prefix))
	if owner := ownerOf(p); owner != nil {
		s.note("  belongs to %s %s, which may make it again", owner.Kind, owner.Name)
	}
	for _, child := range children {
		s.note("  %s", child)
	}
	if count > len(children) {
		s.note("  and %d more", count-len(children))
	}
	if elsewhere > 0 {
		s.note("  and %d in other namespaces", elsewhere)
	}
	return count + elsewhere, nil
}

// confirmRelease returns an error unless the user wants to delete the Prefixes with the names.
func (s *session) confirmRelease(names []string, dependents int) error {
	question := fmt.Sprintf("Delete %s? This cannot be undone.", strings.Join(names, ", "))
	if dependents > 0 {
		question = fmt.Sprintf("Delete %s? There are %d prefixes in it, which keep it until they are gone. This cannot be undone.",
			strings.Join(names, ", "), dependents)
	}
	switch ok, asked := s.confirm(question); {
	case asked && !ok:
		return exitf(ExitConflict, "nothing is deleted")
	case !asked && !s.yes && dependents > 0:
		return exitf(ExitConflict, "there are %d prefixes in it: release them first, or use --yes", dependents)
	}
	return nil
}

// afterwards ends the cool-down of a Prefix that is gone, or says that its space cools down. The PrefixAllocation follows
// the Prefix, so it may take a moment until it cools or is gone.
func (s *session) afterwards(ctx context.Context, p *v1alpha1.Prefix, now bool) error {
	if _, ok := heldBy(p); !ok || parentOf(p) == "" {
		return nil
	}
	if !now {
		policies, err := s.policiesIn(ctx, p.Namespace)
		if err != nil || !slices.ContainsFunc(policies.policies, func(p namedPolicy) bool { return p.spec.CoolDown != nil }) {
			return err
		}
	}
	opts := metav1.ListOptions{LabelSelector: v1alpha1.RequesterUIDLabel + "=" + string(p.UID)}
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, followTimeout, true, func(ctx context.Context) (bool, error) {
		settled := true
		err := s.clients.eachAllocationIn(ctx, p.Namespace, opts, func(a *v1alpha1.PrefixAllocation) error {
			settled = settled && a.Status.CoolingUntil != nil
			return nil
		})
		return settled, err
	})
	if err != nil && (!wait.Interrupted(err) || ctx.Err() != nil) {
		if apierrors.IsForbidden(err) && !now {
			return nil
		}
		return err
	}
	if now {
		_, err := s.endCooling(ctx, p.Name, p)
		return err
	}
	kept, err := s.coolingFor(ctx, p.Name, p)
	for _, c := range kept {
		s.note("%s: %s. 'kubectl ipam release %s --now -n %s' ends that.", c.prefix, c, p.Name, p.Namespace)
	}
	return err
}

// dependents returns what is allocated from a Prefix for its own namespace, in words, and how much that is. Prefixes with
// the names are released, too, and counted apart.
func (s *session) dependents(ctx context.Context, p *v1alpha1.Prefix, names []string) (listed []string, count, released int, err error) {
	add := func(format string, args ...any) {
		if count++; len(listed) < maxListed {
			listed = append(listed, fmt.Sprintf(format, args...))
		}
	}
	err = s.clients.eachPrefixIn(ctx, p.Namespace, childrenOf(p.Name), func(child *v1alpha1.Prefix) error {
		if _, ok := heldBy(child); !ok || !isChildOf(child, p) {
			return nil
		}
		if slices.Contains(names, child.Name) {
			released++
			return nil
		}
		of := ""
		if owner := ownerOf(child); owner != nil {
			of = fmt.Sprintf(" of %s %s", owner.Kind, owner.Name)
		}
		add("%s %s%s", child.Name, child.Spec.Prefix, of)
		return nil
	})
	if err != nil {
		return nil, 0, 0, err
	}
	opts := metav1.ListOptions{LabelSelector: "!" + v1alpha1.RequesterUIDLabel, FieldSelector: allocatedFrom(p.Name).FieldSelector}
	err = s.clients.eachAllocationIn(ctx, p.Namespace, opts, func(a *v1alpha1.PrefixAllocation) error {
		if a.Status.Phase == v1alpha1.PrefixAllocationPhaseAllocated && isAllocatedFrom(a, p) {
			add("PrefixAllocation %s %s", a.Name, a.Status.Prefix)
		}
		return nil
	})
	if apierrors.IsForbidden(err) {
		s.denied = true
		s.say("You may not read prefixallocations in namespace %q, so what holds space without a Prefix is missing.", p.Namespace)
		err = nil
	}
	return listed, count, released, err
}

// usageTimeout is how long release waits for a status that counts more allocations than there are. The controller updates
// the status within a second after an allocation is deleted.
const usageTimeout = 2 * time.Second

// dependentsElsewhere returns how many prefixes are allocated from a Prefix for other namespaces. own is the number of those
// of its own namespace that are known. Ranges that cool down do not count.
//
// The owner of a shared Prefix need not be allowed to read other namespaces. Then the result is the number of allocations
// in the status of the Prefix, without those of its own namespace.
func (s *session) dependentsElsewhere(ctx context.Context, p *v1alpha1.Prefix, own int) (elsewhere int, err error) {
	missing := func(p *v1alpha1.Prefix) int {
		if p.Status.Usage == nil {
			return 0
		}
		return max(0, int(p.Status.Usage.Allocations)-own)
	}
	if missing(p) == 0 {
		return 0, nil
	}
	inside := 0
	count := func(namespace string) error {
		return s.clients.eachAllocationIn(ctx, namespace, allocatedFrom(p.Name), func(a *v1alpha1.PrefixAllocation) error {
			switch {
			case !isAllocatedFrom(a, p) || a.Status.Phase != v1alpha1.PrefixAllocationPhaseAllocated || a.Status.CoolingUntil != nil:
			case a.Namespace == p.Namespace:
				inside++
			default:
				elsewhere++
			}
			return nil
		})
	}
	if err := count(metav1.NamespaceAll); !apierrors.IsForbidden(err) {
		return elsewhere, err
	}
	if err := count(p.Namespace); err != nil && !apierrors.IsForbidden(err) {
		return 0, err
	}
	own = max(own, inside)
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, usageTimeout, true, func(ctx context.Context) (bool, error) {
		now, err := s.clients.ipam.Prefixes(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			elsewhere = 0
			return true, nil
		}
		if err == nil {
			elsewhere = missing(now)
		}
		return elsewhere == 0, err
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		err = nil
	}
	return elsewhere, err
}

// waitGone waits until a Prefix is gone.
func (s *session) waitGone(ctx context.Context, p *v1alpha1.Prefix) error {
	now, err := s.clients.ipam.Prefixes(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && now.UID != p.UID {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = s.watchPrefix(ctx, now, func(_ *v1alpha1.Prefix, deleted bool) (bool, error) { return deleted, nil })
	return err
}

// confirm asks a question on the terminal. asked is false if there is no terminal, or if --yes answers.
func (s *session) confirm(question string) (ok, asked bool) {
	if s.yes || !s.IsTerminal(s.In) {
		return false, false
	}
	fmt.Fprint(s.ErrOut, plaintext.Escape(question)+" [y/N] ")
	line, _ := bufio.NewReader(s.In).ReadString('\n')
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", true
}
