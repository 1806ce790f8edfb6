// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cli/rules"
	"github.com/ironcore-dev/ipam-apiserver/pkg/request"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

func (s *session) newShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a Prefix and what is around it",
		Long: "Show a Prefix: where it came from up to the root, the first " +
			fmt.Sprintf("%d Prefixes that are allocated from it and that wait for it, the policies that apply, its owners, its conditions and its "+
				"last %d events.", maxChildren, maxEvents),
		Example: "  kubectl ipam show office",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := s.checkOutput(); err != nil {
				return err
			}
			return s.watched(cmd.Context(), func(ctx context.Context) error { return s.show(ctx, args[0]) })
		},
		ValidArgsFunction: s.completePrefixes(1),
	}
	s.addOutputFlag(cmd)
	s.addWatchFlag(cmd)
	return cmd
}

// showItem is a Prefix that is allocated from the one that is shown, or waits for it, in JSON and YAML.
type showItem struct {
	Name    string `json:"name"`
	Prefix  string `json:"prefix,omitempty"`
	Request string `json:"request,omitempty"`
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// ancestor is a Prefix above another one, in JSON and YAML.
type ancestor struct {
	Name   string `json:"name"`
	Prefix string `json:"prefix"`
	// object is nil if it may not be read, or does not exist.
	object *v1alpha1.Prefix
}

// eventItem is an event in JSON and YAML.
type eventItem struct {
	Time    metav1.Time `json:"time"`
	Type    string      `json:"type"`
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
}

const (
	// maxChildren is the number of children that show names, and also that of those that wait.
	maxChildren = 20
	// maxEvents is the number of events that show prints.
	maxEvents = 5
)

// show shows a Prefix.
func (s *session) show(ctx context.Context, name string) error {
	d, err := s.describe(ctx, name)
	if err != nil {
		return err
	}
	r := result{kind: "PrefixDescription", columns: []column{{name: "CHILD"}, {name: "PREFIX"}, {name: "STATE"}}}
	r.fields, r.before = s.describedFields(d), s.describedLines(d)
	for _, item := range slices.Concat(d.allocated, d.waiting) {
		state := item.State
		if item.Reason != "" {
			state += ": " + item.Reason
		}
		r.rows = append(r.rows, row{cells: []string{item.Name, orNone(item.Prefix), state}, item: item, name: item.Name, color: stateColor(item.State)})
	}
	if d.more > 0 {
		r.after = append(r.after, fmt.Sprintf("%d more are not shown: kubectl ipam tree %s -n %s", d.more, d.Name, d.Namespace))
	}
	return s.print(r)
}

// description is a Prefix and what is around it.
type description struct {
	*v1alpha1.Prefix
	// ancestors are the Prefixes above it, the root first.
	ancestors []ancestor
	owners    []owner
	// allocated is what is allocated from it, sorted by address.
	allocated []showItem
	// waiting is what waits for it, sorted by name.
	waiting []showItem
	// more is the number of those that neither allocated nor waiting has.
	more int
	// events are the last ones, the newest first.
	events []eventItem
	// cooling is what is kept for children that are gone, sorted by address.
	cooling []cooling
	// policies are the rules that apply, with the names of their policies.
	policies []string
}

// describe reads a Prefix and what is around it.
func (s *session) describe(ctx context.Context, name string) (*description, error) {
	_, p, err := s.get(ctx, name)
	if err != nil {
		return nil, err
	}
	d := &description{Prefix: p, policies: []string{}}
	if d.ancestors, err = s.ancestors(ctx, p); err != nil {
		return nil, err
	}
	if d.owners, err = s.owners(ctx, p); err != nil {
		return nil, err
	}
	if err := s.addAllocated(ctx, d); err != nil {
		return nil, err
	}
	if err := s.addWaiting(ctx, d); err != nil {
		return nil, err
	}
	if d.events, err = s.events(ctx, p); err != nil {
		return nil, err
	}
	if d.cooling, err = s.coolingIn(ctx, p); err != nil {
		return nil, err
	}
	policies, err := s.policiesIn(ctx, p.Namespace)
	if err != nil {
		return nil, err
	}
	for _, policy := range policies.selecting(p.Labels) {
		for _, rule := range rules.Of(policy.spec) {
			d.policies = append(d.policies, policy.name+": "+rule.String())
		}
	}
	return d, nil
}

// describedFields returns what JSON and YAML say of a Prefix, except for its children.
func (s *session) describedFields(d *description) map[string]any {
	owners, cooling := append([]owner{}, d.owners...), []string{}
	for _, c := range d.cooling[:min(len(d.cooling), maxChildren)] {
		cooling = append(cooling, c.prefix.String())
	}
	described := map[string]any{
		"namespace": d.Namespace, "name": d.Name, "state": stateOf(d.Prefix), "labels": d.Labels, "ancestors": d.ancestors, "owners": owners,
		"conditions": d.Status.Conditions, "usage": d.Status.Usage, "events": d.events, "created": d.CreationTimestamp, "cooling": cooling, "policies": d.policies,
	}
	if prefix, ok := heldBy(d.Prefix); ok {
		described["prefix"] = prefix.String()
	} else if asked, err := request.OfPrefix(&d.Spec); err == nil {
		described["request"] = asked.String()
	}
	return described
}

// describedLines returns the lines about a Prefix that a person reads, except for its children.
func (s *session) describedLines(d *description) []string {
	var lines []string
	line := func(label, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-12s ", label+":")+fmt.Sprintf(format, args...))
	}
	line("Name", "%s", d.Name)
	line("Namespace", "%s", d.Namespace)
	if prefix, ok := heldBy(d.Prefix); ok {
		line("Prefix", "%s, %s addresses", prefix, sizeOf(prefix))
	} else if asked, err := request.OfPrefix(&d.Spec); err == nil {
		line("Request", "%s%s", asked, ofFamily(asked))
	}
	line("State", "%s", stateOf(d.Prefix))
	line("Age", "%s", s.age(d.CreationTimestamp))
	path := ""
	for _, a := range d.ancestors {
		path += fmt.Sprintf("%s (%s) > ", a.Name, orNone(a.Prefix))
	}
	line("Path", "%s", path+d.Name)
	if len(d.owners) > 0 {
		line("Owner", "%s", ownersInWords(d.owners))
	}
	if len(d.Labels) > 0 {
		line("Labels", "%s", labels.Set(d.Labels))
	}
	if u := d.Status.Usage; u != nil {
		line("Used", "%s of %s addresses, %d%%, by %d prefixes", u.Used, u.Total, u.Percent, u.Allocations)
		line("Free", "%s addresses, largest block %s", u.Free, orNone(u.LargestFree))
	}
	for _, c := range d.cooling[:min(len(d.cooling), maxChildren)] {
		line("Cooling", "%s, until %s, for %s", c.prefix, c.until.UTC().Format(time.RFC3339), orNone(c.child))
	}
	if more := len(d.cooling) - maxChildren; more > 0 {
		line("Cooling", "%d more ranges", more)
	}
	for _, policy := range d.policies {
		line("Policy", "%s", policy)
	}
	for _, condition := range d.Status.Conditions {
		line("Condition", "%s=%s %s: %s", condition.Type, condition.Status, condition.Reason, condition.Message)
	}
	for _, event := range d.events {
		line("Event", "%s ago, %s %s: %s", s.age(event.Time), event.Type, event.Reason, event.Message)
	}
	return lines
}

// ancestors returns the Prefixes above a Prefix, the root first.
func (s *session) ancestors(ctx context.Context, p *v1alpha1.Prefix) ([]ancestor, error) {
	found := []ancestor{}
	for at := p; parentOf(at) != "" && len(found) < 128; {
		parent, err := s.clients.ipam.Prefixes(at.NamespaceOfParent()).Get(ctx, parentOf(at), metav1.GetOptions{})
		foreign := at.NamespaceOfParent() != p.Namespace
		if apierrors.IsNotFound(err) || foreign && apierrors.IsForbidden(err) {
			// The owners of a shared Prefix need not let others read it.
			return slices.Insert(found, 0, ancestor{Name: parentInWords(at)}), nil
		}
		if err != nil {
			return nil, err
		}
		found = slices.Insert(found, 0, ancestor{Name: parentInWords(at), Prefix: parent.Spec.Prefix, object: parent})
		at = parent
	}
	return found, nil
}

// addAllocated adds what is allocated from a Prefix, and what names it as its parent and waits.
func (s *session) addAllocated(ctx context.Context, d *description) error {
	var nodes []*node
	err := s.clients.eachPrefixIn(ctx, d.Namespace, childrenOf(d.Name), func(child *v1alpha1.Prefix) error {
		switch _, ok := heldBy(child); {
		case !isChildOf(child, d.Prefix):
		case !ok:
			d.wait(child)
		case len(nodes) < 50*maxChildren:
			nodes = append(nodes, newNode(child, labels.Everything()))
		default:
			d.more++
		}
		return nil
	})
	slices.SortFunc(nodes, byAddress)
	shown := min(len(nodes), maxChildren)
	d.more += len(nodes) - shown
	for _, n := range nodes[:shown] {
		d.allocated = append(d.allocated, showItem{Name: n.Name, Prefix: n.prefix.String(), State: n.state})
	}
	return err
}

// addWaiting adds what waits for a Prefix because a selector matches it.
func (s *session) addWaiting(ctx context.Context, d *description) error {
	opts := metav1.ListOptions{FieldSelector: "status.phase=" + string(v1alpha1.PrefixPhasePending)}
	return s.clients.eachPrefixIn(ctx, d.Namespace, opts, func(pending *v1alpha1.Prefix) error {
		if pending.Spec.ParentRef != nil || pending.Spec.ParentSelector == nil || pending.Name == d.Name || pending.NamespaceOfParent() != d.Namespace {
			return nil
		}
		selector, err := metav1.LabelSelectorAsSelector(pending.Spec.ParentSelector)
		if err == nil && d.isParentFor(selector) {
			d.wait(pending)
		}
		return nil
	})
}

// isParentFor reports whether a Prefix is one of the outermost that a selector matches. One below another match is none.
func (d *description) isParentFor(selector labels.Selector) bool {
	return selector.Matches(labels.Set(d.Labels)) && !slices.ContainsFunc(d.ancestors, func(a ancestor) bool {
		return a.object != nil && a.object.Namespace == d.Namespace && selector.Matches(labels.Set(a.object.Labels))
	})
}

// wait adds a child that waits.
func (d *description) wait(child *v1alpha1.Prefix) {
	item := showItem{Name: child.Name, State: stateOf(child)}
	if asked, err := request.OfPrefix(&child.Spec); err == nil {
		item.Request = asked.String()
	}
	if condition := reported(child); condition != nil {
		item.Reason, item.Message = condition.Reason, condition.Message
	}
	at, _ := slices.BinarySearchFunc(d.waiting, item, func(a, b showItem) int { return strings.Compare(a.Name, b.Name) })
	if d.waiting = slices.Insert(d.waiting, at, item); len(d.waiting) > maxChildren {
		d.waiting = d.waiting[:maxChildren]
		d.more++
	}
}

// events returns the last events about a Prefix, the newest first. A server without an API for events has none.
func (s *session) events(ctx context.Context, p *v1alpha1.Prefix) ([]eventItem, error) {
	found := []eventItem{}
	opts := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("involvedObject.uid", string(p.UID)).String()}
	err := eachPage(ctx, opts, func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return s.clients.core.Events(p.Namespace).List(ctx, opts)
	}, func(obj runtime.Object) error {
		event := obj.(*corev1.Event)
		at := event.LastTimestamp
		if series := event.Series; series != nil {
			at = metav1.Time(series.LastObservedTime)
		} else if at.IsZero() {
			at = metav1.Time(event.EventTime)
		}
		found = append(found, eventItem{at, event.Type, event.Reason, event.Message})
		return nil
	})
	switch {
	case apierrors.IsNotFound(err):
		return found, nil
	case apierrors.IsForbidden(err):
		s.denied = true
		s.say("You may not read events in namespace %q, so they are missing.", p.Namespace)
		return found, nil
	}
	slices.SortStableFunc(found, func(a, b eventItem) int { return b.Time.Compare(a.Time.Time) })
	return found[:min(len(found), maxEvents)], err
}
