// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"github.com/ironcore-dev/ipam-apiserver/pkg/request"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func (s *session) newWhyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why NAME",
		Short: "Show why a Prefix is Pending, and what would help",
		Long: "Show why a Prefix is Pending: each parent that it names or that its selector matches, with the reason why it was not " +
			fmt.Sprintf("allocated from it, the most promising first and at most %d, and what would help. The reasons follow from what the "+
				"Prefixes and PrefixPolicies are now.", maxParents),
		Example: "  kubectl ipam why too-large",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.checkOutput(); err != nil {
				return err
			}
			return s.watched(cmd.Context(), func(ctx context.Context) error { return s.why(ctx, args[0]) })
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	s.addOutputFlag(cmd)
	s.addWatchFlag(cmd)
	return cmd
}

// whyItem is a parent in JSON and YAML.
type whyItem struct {
	Parent string `json:"parent"`
	Prefix string `json:"prefix,omitempty"`
	// Reason is one of the reasons of the condition Allocated. It is empty if the parent has room.
	Reason      string `json:"reason,omitempty"`
	Message     string `json:"message"`
	LargestFree string `json:"largestFree,omitempty"`
}

// hope is the higher, the more likely the parent has room soon. Most hope is for one that has room now.
func (i whyItem) hope() int {
	if i.Reason == "" {
		return math.MaxInt
	}
	return v1alpha1.HopeOf(i.Reason)
}

// maxParents is the number of parents that why shows.
const maxParents = 50

// why explains the state of a Prefix.
func (s *session) why(ctx context.Context, name string) error {
	_, p, err := s.get(ctx, name)
	if err != nil {
		return err
	}
	r := result{kind: "Explanation", columns: []column{{name: "PARENT"}, {name: "PREFIX"}, {name: "LARGEST FREE"}, {name: "REASON"}}}
	r.fields = map[string]any{"namespace": p.Namespace, "name": p.Name, "state": stateOf(p)}
	if condition := reported(p); condition != nil {
		r.fields["reason"], r.fields["message"] = condition.Reason, condition.Message
	}
	switch {
	case p.DeletionTimestamp != nil:
		s.whyTerminating(p, &r)
	case p.Status.Phase == v1alpha1.PrefixPhaseAllocated:
		from := "It is a root."
		if parent := parentInWords(p); parent != "" {
			from = "It is allocated from " + parent + "."
		}
		r.before = []string{fmt.Sprintf("%s is Allocated: it has %s. %s", p.Name, p.Spec.Prefix, from)}
	default:
		if err := s.whyPending(ctx, p, &r); err != nil {
			return err
		}
	}
	return s.print(r)
}

// reported returns the condition that says where a Prefix stands, or nil.
func reported(p *v1alpha1.Prefix) *metav1.Condition {
	if p.DeletionTimestamp != nil {
		return meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionDeletable)
	}
	return meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionAllocated)
}

// whyTerminating explains why a Prefix that is being deleted is still there.
func (s *session) whyTerminating(p *v1alpha1.Prefix, r *result) {
	r.before = []string{p.Name + " is being deleted."}
	condition := reported(p)
	if condition != nil {
		r.before = append(r.before, condition.Reason+": "+condition.Message)
	}
	help := []string{}
	switch {
	case condition != nil && condition.Reason == v1alpha1.ReasonHasChildren:
		help = append(help, fmt.Sprintf("Release what is allocated from it: kubectl ipam tree %s -n %s", p.Name, p.Namespace))
	case len(p.Finalizers) > 0:
		help = append(help, "It goes when these finalizers are removed by those who set them: "+strings.Join(p.Finalizers, ", "))
	}
	r.help(help)
}

// help adds what would help to a result.
func (r *result) help(help []string) {
	r.fields["help"] = help
	if len(help) == 0 {
		return
	}
	r.after = append(r.after, "What would help:")
	for _, line := range help {
		r.after = append(r.after, "- "+line)
	}
}

// whyPending explains why a Prefix waits.
func (s *session) whyPending(ctx context.Context, p *v1alpha1.Prefix, r *result) error {
	asked, err := request.OfPrefix(&p.Spec)
	if err != nil {
		return exitf(ExitInvalid, "%s: %w", p.Name, err)
	}
	r.fields["request"] = asked.String()
	parents, selector, err := s.parentsOf(ctx, p)
	if foreign := p.NamespaceOfParent(); apierrors.IsForbidden(err) && foreign != p.Namespace {
		s.denied = true
		s.say("You may not read prefixes in namespace %q, so what the parents are is missing.", foreign)
		err = nil
	}
	if err != nil {
		return err
	}
	from := "the Prefix " + parentInWords(p)
	if selector != nil {
		from = "a Prefix with the labels " + selector.String()
		if foreign := p.NamespaceOfParent(); foreign != p.Namespace {
			from += " in namespace " + foreign
		}
	}
	r.before = []string{fmt.Sprintf("%s is Pending: it asks for %s%s from %s.", p.Name, asked, ofFamily(asked), from)}
	if condition := reported(p); condition != nil {
		r.before = append(r.before, condition.Reason+": "+condition.Message)
	}

	policies := &policySet{}
	if len(parents) > 0 {
		if policies, err = s.policiesIn(ctx, p.NamespaceOfParent()); err != nil {
			return err
		}
	}
	items := make([]whyItem, 0, len(parents))
	for _, parent := range parents {
		items = append(items, judge(p, parent, asked, policies))
	}
	slices.SortFunc(items, func(a, b whyItem) int {
		return cmp.Or(cmp.Compare(b.hope(), a.hope()), strings.Compare(a.Parent, b.Parent))
	})
	for i, item := range items {
		if i == maxParents {
			s.note("%d more parents are not shown.", len(items)-maxParents)
			break
		}
		r.rows = append(r.rows, row{item: item, name: item.Parent,
			cells: []string{item.Parent, orNone(item.Prefix), orNone(item.LargestFree), strings.TrimPrefix(item.Reason+": "+item.Message, ": ")}})
	}
	r.help(whatHelps(p, asked, selector, items))
	return nil
}

// ofFamily returns the family of a request for a length as part of a sentence.
func ofFamily(request cidr.Request) string {
	if request.Prefix.IsValid() || request.Family == "" {
		return ""
	}
	return " of " + request.Family
}

// parentsOf returns the parents that a Prefix could be allocated from: the one that it names, or the outermost ones that
// its selector matches. The selector is nil if the Prefix names its parent.
func (s *session) parentsOf(ctx context.Context, p *v1alpha1.Prefix) ([]*v1alpha1.Prefix, labels.Selector, error) {
	namespace := p.NamespaceOfParent()
	prefixes := s.clients.ipam.Prefixes(namespace)
	if name := parentOf(p); name != "" || p.Spec.ParentSelector == nil {
		if name == "" {
			return nil, nil, nil
		}
		parent, err := prefixes.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil, nil, nil
		case err != nil:
			return nil, nil, err
		}
		return []*v1alpha1.Prefix{parent}, nil, err
	}
	selector, err := metav1.LabelSelectorAsSelector(p.Spec.ParentSelector)
	if err != nil {
		return nil, nil, exitf(ExitInvalid, "%w", err)
	}
	parents, err := s.outermostMatches(ctx, namespace, selector)
	if err != nil {
		return nil, selector, err
	}
	return slices.DeleteFunc(parents, func(parent *v1alpha1.Prefix) bool { return parent.Name == p.Name && namespace == p.Namespace }), selector, nil
}

// outermostMatches returns the Prefixes of a namespace that a selector matches and that do not lie below another match.
func (s *session) outermostMatches(ctx context.Context, namespace string, selector labels.Selector) ([]*v1alpha1.Prefix, error) {
	matches := map[string]*v1alpha1.Prefix{}
	err := s.clients.eachPrefixIn(ctx, namespace, metav1.ListOptions{LabelSelector: selector.String()}, func(match *v1alpha1.Prefix) error {
		match = match.DeepCopy()
		match.ManagedFields = nil
		matches[match.Name] = match
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Whether a match lies below another one shows only in those between them, which need not match.
	between := map[string]string{}
	parentName := func(name string) (string, error) {
		if match := matches[name]; match != nil {
			return parentOf(match), nil
		}
		if parent, ok := between[name]; ok {
			return parent, nil
		}
		p, err := s.clients.ipam.Prefixes(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return "", err
		}
		between[name] = ""
		if err == nil {
			between[name] = parentOf(p)
		}
		return between[name], nil
	}
	var outermost []*v1alpha1.Prefix
	for name, match := range matches {
		isBelow := false
		above, err := parentName(name)
		for range 128 {
			if err != nil || above == "" || isBelow {
				break
			}
			isBelow = matches[above] != nil
			above, err = parentName(above)
		}
		if err != nil {
			return nil, err
		}
		if !isBelow {
			outermost = append(outermost, match)
		}
	}
	return outermost, nil
}

// judge returns why a request cannot be allocated from a parent now, according to the status of the parent.
func judge(p, parent *v1alpha1.Prefix, request cidr.Request, policies *policySet) whyItem {
	item := whyItem{Parent: parent.Name, Prefix: parent.Spec.Prefix}
	refuse := func(reason, format string, args ...any) whyItem {
		item.Reason, item.Message = reason, fmt.Sprintf(format, args...)
		return item
	}
	prefix, ok := heldBy(parent)
	largest := 0
	if ok {
		largest, item.LargestFree = largestFree(parent, prefix)
	}
	switch {
	case parent.Name == p.Name && parent.Namespace == p.Namespace:
		return refuse(v1alpha1.ReasonNoSuitableParent, "cannot be allocated from itself")
	case parent.DeletionTimestamp != nil:
		return refuse(v1alpha1.ReasonParentNotReady, "is being deleted")
	case !ok:
		return refuse(v1alpha1.ReasonParentNotReady, "is not allocated yet")
	}
	if why := request.Misfit(prefix); why != "" {
		return refuse(v1alpha1.ReasonNoSuitableParent, "%s", why)
	}
	if reason, why := policies.forbids(parent.Labels, request.Bits); reason != "" {
		return refuse(reason, "%s", why)
	}
	usage := parent.Status.Usage
	if request.Prefix.IsValid() {
		for _, used := range parent.Status.Used {
			if held, err := cidr.ParseStored(used); err == nil && held.Overlaps(request.Prefix) {
				return refuse(v1alpha1.ReasonPrefixInUse, "has %s in use, which overlaps %s", held, request)
			}
		}
		if condition := reported(p); cools(parent) && condition != nil && condition.Reason == v1alpha1.ReasonPrefixInUse {
			return refuse(v1alpha1.ReasonPrefixInUse, "keeps a part of %s for a child that was deleted", request)
		}
	} else if largest == 0 || largest > request.Bits {
		switch condition := reported(p); {
		case usage != nil && usage.Reserved != "" && usage.Reserved != "0" && condition != nil && condition.Reason == v1alpha1.ReasonReserved:
			return refuse(v1alpha1.ReasonReserved, "has no room for %s outside of reserved space", request)
		case usage == nil || usage.Free == "0" || largest == 0:
			return refuse(v1alpha1.ReasonParentExhausted, "has no room for %s: no address is free", request)
		default:
			return refuse(v1alpha1.ReasonParentExhausted, "has no room for %s: %s addresses are free, the largest free block is a /%d", request, usage.Free, largest)
		}
	}
	item.Message = "has room"
	if condition := reported(p); condition != nil && condition.Reason == v1alpha1.ReasonRefused {
		item.Reason, item.Message = v1alpha1.ReasonRefused, "has room, but the API server refused"
	}
	return item
}

// largestFree returns the length of the largest block that can be allocated from a parent, as a number and as text. It
// returns 0 if there is none.
func largestFree(parent *v1alpha1.Prefix, prefix netip.Prefix) (int, string) {
	if usage := parent.Status.Usage; usage != nil {
		bits, _ := strconv.Atoi(strings.TrimPrefix(usage.LargestFree, "/"))
		return bits, usage.LargestFree
	}
	if prefix.IsSingleIP() {
		return 0, ""
	}
	return prefix.Bits() + 1, fmt.Sprintf("/%d", prefix.Bits()+1)
}

// whatHelps returns what the user can do to get a Prefix allocated, the simplest first.
func whatHelps(p *v1alpha1.Prefix, request cidr.Request, selector labels.Selector, items []whyItem) []string {
	var help []string
	add := func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); !slices.Contains(help, line) {
			help = append(help, line)
		}
	}
	if reported(p) == nil {
		add("Wait a moment. If nothing changes, ask who runs the cluster whether ipam-controller-manager runs: it has not seen this Prefix yet.")
	}
	namespace := p.NamespaceOfParent()
	switch condition := reported(p); {
	case condition != nil && condition.Reason == v1alpha1.ReasonNotShared:
		add("Ask those who own namespace %s to share it with you: kubectl ipam share %s --with %s -n %s", namespace, cmp.Or(parentOf(p), "NAME"), p.Namespace, namespace)
	case len(items) == 0 && selector == nil && namespace == p.Namespace:
		add("Create the Prefix %s in namespace %s.", parentOf(p), p.Namespace)
	}
	for _, item := range items {
		switch item.Reason {
		case "":
			add("Wait a moment: %s has room.", item.Parent)
		case v1alpha1.ReasonRefused:
			add("Do what the message of the API server says.")
		case v1alpha1.ReasonParentClosed:
			add("Open the parent, if you may: kubectl ipam open %s -n %s", item.Parent, namespace)
		case v1alpha1.ReasonLengthNotAllowed:
			add("Ask for a length that is allowed: kubectl get prefixpolicies -n %s", namespace)
		case v1alpha1.ReasonReserved:
			add("Ask for exactly a reserved prefix of %s, if it is meant for you.", item.Parent)
			add("Reserve less of %s: kubectl ipam unreserve %s RANGE -n %s", item.Parent, item.Parent, namespace)
		case v1alpha1.ReasonParentExhausted:
			if item.LargestFree != "" {
				add("Ask %s for a %s or longer.", item.Parent, item.LargestFree)
			}
			add("Release something in %s: kubectl ipam tree %s -n %s", item.Parent, item.Parent, namespace)
		case v1alpha1.ReasonPrefixInUse:
			add("Release what overlaps %s: kubectl ipam who %s -n %s", request, request, namespace)
			add("Ask for a length instead, and take what is free: kubectl ipam free %s --length %d -n %s", item.Parent, request.Bits, namespace)
		case v1alpha1.ReasonParentNotReady:
			add("Look at the parent: kubectl ipam why %s -n %s", item.Parent, namespace)
		case v1alpha1.ReasonNoSuitableParent:
			if selector == nil {
				add("Delete it, and ask for something that fits: from %s (%s), it never will.", item.Parent, orNone(item.Prefix))
			}
		}
		// The first lines are enough if there are many parents.
		if len(help) >= 5 {
			break
		}
	}
	if selector != nil {
		what := fmt.Sprintf("a Prefix that is larger than a /%d", request.Bits)
		if request.Prefix.IsValid() {
			what = "a Prefix that contains " + request.String()
		} else if request.Family != "" {
			what = fmt.Sprintf("a Prefix of %s that is larger than a /%d", request.Family, request.Bits)
		}
		add("Create %s, with the labels %s, in namespace %s; or give these labels to one that is there.", what, selector, namespace)
	}
	return help
}
