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
	_, p, err := s.get(ctx, name)
	if err != nil {
		return err
	}
	ancestors, err := s.ancestors(ctx, p)
	if err != nil {
		return err
	}
	owners, err := s.owners(ctx, p)
	if err != nil {
		return err
	}
	if owners == nil {
		owners = []owner{}
	}
	allocated, waiting, more, err := s.around(ctx, p)
	if err != nil {
		return err
	}
	events, err := s.events(ctx, p)
	if err != nil {
		return err
	}
	policies, err := s.policiesIn(ctx, p.Namespace)
	if err != nil {
		return err
	}

	r := result{kind: "PrefixDescription", columns: []column{{name: "CHILD"}, {name: "PREFIX"}, {name: "STATE"}}}
	r.fields = map[string]any{"namespace": p.Namespace, "name": p.Name, "state": stateOf(p), "labels": p.Labels, "ancestors": ancestors, "owners": owners,
		"conditions": p.Status.Conditions, "usage": p.Status.Usage, "events": events, "created": p.CreationTimestamp}
	line := func(label, format string, args ...any) {
		r.before = append(r.before, fmt.Sprintf("%-12s ", label+":")+fmt.Sprintf(format, args...))
	}
	line("Name", "%s", p.Name)
	line("Namespace", "%s", p.Namespace)
	if prefix, ok := heldBy(p); ok {
		r.fields["prefix"] = prefix.String()
		line("Prefix", "%s, %s addresses", prefix, sizeOf(prefix))
	} else if asked, err := request.OfPrefix(&p.Spec); err == nil {
		r.fields["request"] = asked.String()
		line("Request", "%s%s", asked, ofFamily(asked))
	}
	line("State", "%s", stateOf(p))
	line("Age", "%s", s.age(p.CreationTimestamp))
	path := ""
	for _, a := range ancestors {
		path += fmt.Sprintf("%s (%s) > ", a.Name, orNone(a.Prefix))
	}
	line("Path", "%s", path+p.Name)
	if len(owners) > 0 {
		line("Owner", "%s", ownersInWords(owners))
	}
	if len(p.Labels) > 0 {
		line("Labels", "%s", labels.Set(p.Labels))
	}
	if u := p.Status.Usage; u != nil {
		line("Used", "%s of %s addresses, %d%%, by %d prefixes", u.Used, u.Total, u.Percent, u.Allocations)
		line("Free", "%s addresses, largest block %s", u.Free, orNone(u.LargestFree))
	}
	kept, err := s.coolingIn(ctx, p)
	if err != nil {
		return err
	}
	cooled := []string{}
	for i, c := range kept {
		if i == maxChildren {
			line("Cooling", "%d more ranges", len(kept)-i)
			break
		}
		line("Cooling", "%s, until %s, for %s", c.prefix, c.until.UTC().Format(time.RFC3339), orNone(c.child))
		cooled = append(cooled, c.prefix.String())
	}
	r.fields["cooling"] = cooled
	applied := []string{}
	for _, policy := range policies.selecting(p.Labels) {
		for _, rule := range rules.Of(policy.spec) {
			text := policy.name + ": " + rule.String()
			line("Policy", "%s", text)
			applied = append(applied, text)
		}
	}
	r.fields["policies"] = applied
	for _, condition := range p.Status.Conditions {
		line("Condition", "%s=%s %s: %s", condition.Type, condition.Status, condition.Reason, condition.Message)
	}
	for _, event := range events {
		line("Event", "%s ago, %s %s: %s", s.age(event.Time), event.Type, event.Reason, event.Message)
	}
	for _, item := range slices.Concat(allocated, waiting) {
		state := item.State
		if item.Reason != "" {
			state += ": " + item.Reason
		}
		r.rows = append(r.rows, row{cells: []string{item.Name, orNone(item.Prefix), state}, item: item, name: item.Name, color: stateColor(item.State)})
	}
	if more > 0 {
		r.after = append(r.after, fmt.Sprintf("%d more are not shown: kubectl ipam tree %s -n %s", more, p.Name, p.Namespace))
	}
	return s.print(r)
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
		found = slices.Insert(found, 0, ancestor{parentInWords(at), parent.Spec.Prefix})
		at = parent
	}
	return found, nil
}

// around returns what is allocated from a Prefix, sorted by address, and what waits for it, sorted by name. more is the
// number of those that are left out.
func (s *session) around(ctx context.Context, p *v1alpha1.Prefix) (allocated, waiting []showItem, more int, err error) {
	wait := func(child *v1alpha1.Prefix) {
		if len(waiting) == maxChildren {
			more++
			return
		}
		item := showItem{Name: child.Name, State: stateOf(child)}
		if asked, err := request.OfPrefix(&child.Spec); err == nil {
			item.Request = asked.String()
		}
		if condition := reported(child); condition != nil {
			item.Reason, item.Message = condition.Reason, condition.Message
		}
		waiting = append(waiting, item)
	}
	var nodes []*node
	err = s.clients.eachPrefixIn(ctx, p.Namespace, childrenOf(p.Name), func(child *v1alpha1.Prefix) error {
		switch _, ok := heldBy(child); {
		case !isChildOf(child, p):
		case !ok:
			wait(child)
		case len(nodes) < 50*maxChildren:
			nodes = append(nodes, newNode(child, labels.Everything()))
		default:
			more++
		}
		return nil
	})
	if err != nil {
		return nil, nil, 0, err
	}
	slices.SortFunc(nodes, byAddress)
	for i, n := range nodes {
		if i == maxChildren {
			more += len(nodes) - maxChildren
			break
		}
		allocated = append(allocated, showItem{Name: n.Name, Prefix: n.prefix.String(), State: n.state})
	}
	opts := metav1.ListOptions{FieldSelector: "status.phase=" + string(v1alpha1.PrefixPhasePending)}
	err = s.clients.eachPrefixIn(ctx, p.Namespace, opts, func(pending *v1alpha1.Prefix) error {
		if pending.Spec.ParentRef != nil || pending.Spec.ParentSelector == nil || pending.Name == p.Name || pending.NamespaceOfParent() != p.Namespace {
			return nil
		}
		selector, err := metav1.LabelSelectorAsSelector(pending.Spec.ParentSelector)
		if err == nil && selector.Matches(labels.Set(p.Labels)) {
			wait(pending)
		}
		return nil
	})
	slices.SortFunc(waiting, func(a, b showItem) int { return strings.Compare(a.Name, b.Name) })
	return allocated, waiting, more, err
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
