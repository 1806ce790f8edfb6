// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/plaintext"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// claimOptions are the flags of the command claim.
type claimOptions struct {
	from, selector, name, family, prefix string
	parentNamespace                      string
	length                               int32
	labels                               map[string]string
	timeout                              time.Duration
	deleteOnTimeout                      bool
	dryRun                               string
}

func (s *session) newClaimCommand() *cobra.Command {
	o := &claimOptions{}
	cmd := &cobra.Command{
		Use:   "claim (--from NAME|--selector SELECTOR) [--length N|--prefix CIDR]",
		Short: "Request a prefix, and print it when it is allocated",
		Long: "Create a Prefix, wait until it is allocated, and print it.\n\n" +
			"With --name, a second run with the same request prints the same prefix. If a Prefix of that name asks for something else, the exit code is 5. If the Prefix is not allocated within --timeout, " +
			"or can never be, claim prints why. The Prefix then stays, and is allocated when there is room, unless --delete-on-timeout is set. The exit " +
			"code is then 7 if no parent has room, 5 if the prefix is in use, and 8 if it is another reason.",
		Example: "  kubectl ipam claim --from root --length 24\n" +
			"  kubectl ipam claim --selector subnet-type=public --family IPv4 --length 24 --name lab -q\n" +
			"  kubectl ipam claim --from root --prefix 10.1.0.0/24 --name dmz",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.checkOutput(); err != nil {
				return err
			}
			p, err := o.request()
			if err != nil {
				return err
			}
			return s.claim(cmd.Context(), o, p)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.from, "from", "", "Name of the parent.")
	fs.StringVar(&o.parentNamespace, "namespace-of-parent", "", "Namespace of the parents, which must share them. If unset, it is that of the Prefix.")
	fs.StringVarP(&o.selector, "selector", "l", "", "Label selector of the parents to choose from.")
	fs.Int32Var(&o.length, "length", 0, "Prefix length to allocate, in bits. If unset, it is the default length that a PrefixPolicy of the parent has.")
	fs.StringVar(&o.prefix, "prefix", "", "Exactly this prefix, in CIDR notation.")
	fs.StringVar(&o.family, "family", "", "IPv4 or IPv6. Required with --selector, unless --prefix is set.")
	fs.StringVar(&o.name, "name", "", "Name of the Prefix. If unset, the server makes a name.")
	fs.StringToStringVar(&o.labels, "labels", nil, "Labels of the Prefix, such as team=a,site=b.")
	fs.DurationVar(&o.timeout, "timeout", 30*time.Second, "How long to wait for the allocation; 0 does not wait.")
	fs.BoolVar(&o.deleteOnTimeout, "delete-on-timeout", false, "Delete the Prefix if it is not allocated in time, or never can be, and this command created it.")
	fs.StringVar(&o.dryRun, "dry-run", "none", "none, server (send the request, but store nothing), or client (only print the object; with -o yaml, for instance).")
	s.addQuietFlag(cmd, "the prefix, or the name if there is none yet")
	s.addOutputFlag(cmd)
	_ = cmd.RegisterFlagCompletionFunc("from", s.completePrefixes(0))
	_ = cmd.RegisterFlagCompletionFunc("family", cobra.FixedCompletions([]string{"IPv4", "IPv6"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{"none", "server", "client"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// request returns the Prefix to create.
func (o *claimOptions) request() (*v1alpha1.Prefix, error) {
	switch {
	case (o.from == "") == (o.selector == ""):
		return nil, exitf(ExitUsage, "set either --from or --selector")
	case o.length != 0 && o.prefix != "":
		return nil, exitf(ExitUsage, "--length and --prefix exclude each other")
	case o.family != "" && o.family != cidr.IPv4 && o.family != cidr.IPv6:
		return nil, exitf(ExitUsage, "--family must be IPv4 or IPv6")
	case o.selector != "" && o.prefix == "" && o.family == "":
		return nil, exitf(ExitUsage, "--selector without --prefix needs --family IPv4 or --family IPv6")
	case o.dryRun != "none" && o.dryRun != "server" && o.dryRun != "client":
		return nil, exitf(ExitUsage, "--dry-run must be none, server or client")
	case o.timeout < 0:
		return nil, exitf(ExitUsage, "--timeout must not be negative")
	}
	p := &v1alpha1.Prefix{ObjectMeta: metav1.ObjectMeta{Name: o.name, Labels: o.labels}}
	if o.name == "" {
		p.GenerateName = "claim-"
		if o.from != "" {
			p.GenerateName = o.from + "-"
		}
	}
	p.Spec.IPFamily, p.Spec.PrefixLength, p.Spec.Prefix = v1alpha1.IPFamily(o.family), o.length, o.prefix
	p.Spec.ParentNamespace = o.parentNamespace
	if o.prefix != "" {
		if _, err := cidr.Parse(o.prefix); err != nil {
			return nil, exitf(ExitUsage, "--prefix %w", err)
		}
	}
	if o.from != "" {
		p.Spec.ParentRef = &v1alpha1.LocalObjectReference{Name: o.from}
		return p, nil
	}
	selector, err := metav1.ParseToLabelSelector(o.selector)
	if err == nil {
		_, err = labels.Parse(o.selector)
	}
	if err != nil {
		return nil, exitf(ExitUsage, "--selector: %w", err)
	}
	p.Spec.ParentSelector = selector
	return p, nil
}

// claimTries is how often claim looks for a Prefix that exists, but is deleted before it is read.
const claimTries = 5

// claim creates a Prefix, waits until it is allocated, and prints it.
func (s *session) claim(ctx context.Context, o *claimOptions, p *v1alpha1.Prefix) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	p.Namespace = c.namespace
	if p.Spec.ParentNamespace == p.Namespace {
		p.Spec.ParentNamespace = ""
	}
	if o.dryRun == "client" {
		return s.printClaim(p)
	}
	opts := metav1.CreateOptions{FieldManager: fieldManager}
	if o.dryRun == "server" {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	created, err := c.ipam.Prefixes(c.namespace).Create(ctx, p, opts)
	isNew := err == nil
	for range claimTries {
		if !apierrors.IsAlreadyExists(err) || o.name == "" {
			break
		}
		created, err = c.ipam.Prefixes(c.namespace).Get(ctx, o.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			// It was deleted meanwhile.
			created, err = c.ipam.Prefixes(c.namespace).Create(ctx, p, opts)
			isNew = err == nil
			continue
		}
		if err != nil {
			return err
		}
		if difference := differs(p, created); difference != "" {
			return exitf(ExitConflict, "Prefix %q exists, and %s", o.name, difference)
		}
	}
	if err != nil {
		return err
	}
	if o.dryRun == "server" || o.timeout == 0 {
		return s.printClaim(created)
	}
	if isNew {
		s.note("Prefix %s is created.", created.Name)
	}
	timed, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	allocated, err := s.waitAllocated(timed, created)
	if err == nil {
		return s.printClaim(allocated)
	}
	if !wait.Interrupted(err) && !errors.Is(err, errStalled) && ctx.Err() == nil {
		return err
	}
	allocated, err = s.giveUp(context.WithoutCancel(ctx), o, created, isNew)
	if err != nil {
		return err
	}
	return s.printClaim(allocated)
}

// differs returns how the request of an existing Prefix differs from that of a wanted one, or "" if it does not. The
// existing one may have more labels. What the wanted one leaves open, the existing one may have got.
func differs(wanted, existing *v1alpha1.Prefix) string {
	if existing.DeletionTimestamp != nil {
		return "is being deleted"
	}
	for _, key := range slices.Sorted(maps.Keys(wanted.Labels)) {
		if value, ok := existing.Labels[key]; !ok || value != wanted.Labels[key] {
			return fmt.Sprintf("does not have the label %s=%s", key, wanted.Labels[key])
		}
	}
	return differsIn(&wanted.Spec, &existing.Spec)
}

// differsIn is like differs, for the parts that say what is requested.
func differsIn(want, has *v1alpha1.PrefixSpec) string {
	switch {
	case want.ParentRef != nil && (has.ParentSelector != nil || has.ParentRef == nil || has.ParentRef.Name != want.ParentRef.Name):
		return "is not allocated from " + want.ParentRef.Name
	case want.ParentNamespace != has.ParentNamespace && (want.ParentRef != nil || want.ParentSelector != nil):
		return "is allocated from another namespace"
	case want.ParentSelector != nil && !equality.Semantic.DeepEqual(want.ParentSelector, has.ParentSelector):
		return "has another selector"
	case want.Prefix != "" && !cidr.Equal(want.Prefix, has.Prefix):
		return "asks for " + cmp.Or(has.Prefix, requestIn(has))
	case want.PrefixLength != 0 && want.PrefixLength != has.PrefixLength && !cidr.HasLength(has.Prefix, int(want.PrefixLength)):
		return "asks for " + requestIn(has)
	case want.IPFamily != "" && want.IPFamily != has.IPFamily:
		return "is " + string(has.IPFamily)
	}
	return ""
}

// requestIn returns what a Prefix asks for, in words.
func requestIn(spec *v1alpha1.PrefixSpec) string {
	if spec.PrefixLength != 0 {
		return fmt.Sprintf("a /%d", spec.PrefixLength)
	}
	return orNone(spec.Prefix)
}

// errStalled is the error of a wait for a Prefix that can never be allocated.
var errStalled = errors.New("it can never be allocated")

// waitAllocated waits until a Prefix is allocated, and returns it.
func (s *session) waitAllocated(ctx context.Context, p *v1alpha1.Prefix) (*v1alpha1.Prefix, error) {
	return s.watchPrefix(ctx, p, func(p *v1alpha1.Prefix, deleted bool) (bool, error) {
		if deleted {
			return false, exitf(ExitConflict, "Prefix %q was deleted meanwhile", p.Name)
		}
		if meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionStalled) {
			return false, errStalled
		}
		return p.Status.Phase == v1alpha1.PrefixPhaseAllocated, nil
	})
}

// watchPrefix waits until done returns true for a Prefix, and returns its last state.
func (s *session) watchPrefix(ctx context.Context, p *v1alpha1.Prefix, done func(p *v1alpha1.Prefix, deleted bool) (bool, error)) (*v1alpha1.Prefix, error) {
	if ok, err := done(p, false); ok || err != nil {
		return p, err
	}
	lw := &cache.ListWatch{WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
		opts.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, p.Name).String()
		return s.clients.ipam.Prefixes(p.Namespace).Watch(ctx, opts)
	}}
	uid := p.UID
	_, err := watchtools.Until(ctx, p.ResourceVersion, lw, func(event watch.Event) (bool, error) {
		switch event.Type {
		case watch.Error:
			return false, apierrors.FromObject(event.Object)
		case watch.Bookmark:
			return false, nil
		}
		changed, ok := event.Object.(*v1alpha1.Prefix)
		if !ok {
			return false, nil
		}
		p = changed
		return done(p, event.Type == watch.Deleted || p.UID != uid)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = wait.ErrorInterrupted(err)
	}
	return p, err
}

// giveUp says why a Prefix was not allocated in time, and deletes it if it shall not wait. It returns the Prefix if it is
// allocated after all.
func (s *session) giveUp(ctx context.Context, o *claimOptions, created *v1alpha1.Prefix, isNew bool) (*v1alpha1.Prefix, error) {
	prefixes := s.clients.ipam.Prefixes(created.Namespace)
	p, err := prefixes.Get(ctx, created.Name, metav1.GetOptions{})
	switch {
	case err != nil:
		return nil, err
	case p.UID != created.UID:
		return nil, exitf(ExitConflict, "Prefix %q was deleted meanwhile", created.Name)
	case p.Status.Phase == v1alpha1.PrefixPhaseAllocated && p.DeletionTimestamp == nil:
		return p, nil
	}
	code, why := ExitUnavailable, "the controllers have not said why"
	if condition := reported(p); condition != nil {
		why = condition.Reason + ": " + condition.Message
		switch condition.Reason {
		case v1alpha1.ReasonParentExhausted, v1alpha1.ReasonNoSuitableParent, v1alpha1.ReasonReserved:
			code = ExitNoRoom
		case v1alpha1.ReasonPrefixInUse:
			code = ExitConflict
		}
	}
	after := fmt.Sprintf("is not allocated after %v", o.timeout)
	if meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionStalled) {
		after = "can never be allocated"
	}
	what := fmt.Sprintf("it stays and waits; 'kubectl ipam why %s -n %s' shows what would help", p.Name, p.Namespace)
	if o.deleteOnTimeout && isNew {
		// What changes at this moment may be that it is allocated.
		err := prefixes.Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID, ResourceVersion: &p.ResourceVersion}})
		if apierrors.IsConflict(err) {
			return s.giveUp(ctx, o, created, isNew)
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		what = "it is deleted"
	}
	return nil, exitf(code, "Prefix %s %s: %s\n%s", p.Name, after, why, what)
}

// printClaim prints a Prefix: with --quiet only what it has.
func (s *session) printClaim(p *v1alpha1.Prefix) error {
	if s.quiet {
		if p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
			fmt.Fprintln(s.Out, plaintext.Escape(p.Spec.Prefix))
		} else {
			fmt.Fprintln(s.Out, plaintext.Escape(p.Name))
		}
		return nil
	}
	if !s.isTable() {
		return s.printObject(p.DeepCopy(), v1alpha1.PrefixKind)
	}
	name := p.Name
	if name == "" {
		name = p.GenerateName + "..."
	}
	return s.printTable(result{
		columns: []column{{name: "NAME"}, {name: "PREFIX"}, {name: "PARENT"}, {name: "AGE", wide: true}, {name: "STATE"}},
		rows: []row{{cells: []string{name, orNone(p.Spec.Prefix), orNone(parentInWords(p)), s.age(p.CreationTimestamp), stateOf(p)},
			color: stateColor(stateOf(p))}},
	})
}
