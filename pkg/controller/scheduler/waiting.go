// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// waiting has the candidates of a namespace that could not be scheduled, by the parent that they name or
// by their selector, so that those whom a parent concerns are found without asking each.
type waiting struct {
	byName     map[string]candidate
	byRef      map[string]group
	bySelector map[string]group
}

// group is candidates with the same parent, or the same selector, by name.
type group map[string]candidate

func newWaiting() waiting {
	return waiting{byName: map[string]candidate{}, byRef: map[string]group{}, bySelector: map[string]group{}}
}

// groups returns where a candidate belongs: a map of groups, and the key in it.
func (w waiting) groups(c candidate) (map[string]group, string) {
	if c.ref != "" {
		return w.byRef, c.ref
	}
	return w.bySelector, c.selector.String()
}

// add has a candidate wait.
func (w waiting) add(c candidate) {
	w.remove(c.name.Name)
	w.byName[c.name.Name] = c
	groups, key := w.groups(c)
	if groups[key] == nil {
		groups[key] = group{}
	}
	groups[key][c.name.Name] = c
}

// remove has a candidate wait no longer, if it did.
func (w waiting) remove(name string) {
	c, ok := w.byName[name]
	if !ok {
		return
	}
	delete(w.byName, name)
	groups, key := w.groups(c)
	if delete(groups[key], name); len(groups[key]) == 0 {
		delete(groups, key)
	}
}

// leave wakes the candidates that name a parent, or whose selector matches one of its sets of labels, and
// that are affected, if that is not nil. They do not wait any more.
func (w waiting) leave(wake func(types.NamespacedName), parent string, affected func(candidate) bool, sets ...labels.Set) {
	w.wakeGroup(wake, w.byRef[parent], affected)
	for _, g := range w.bySelector {
		for _, c := range g {
			// All of them have the same selector.
			if slices.ContainsFunc(sets, func(set labels.Set) bool { return c.selector.Matches(set) }) {
				w.wakeGroup(wake, g, affected)
			}
			break
		}
	}
}

func (w waiting) wakeGroup(wake func(types.NamespacedName), g group, affected func(candidate) bool) {
	for name, c := range g {
		if affected == nil || affected(c) {
			w.remove(name)
			wake(c.name)
		}
	}
}
