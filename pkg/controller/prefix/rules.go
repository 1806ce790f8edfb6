// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"context"
	"sync"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/observe"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// rulesDelay is how long changes of the policies of a namespace are collected before the affected Prefixes are looked for.
const rulesDelay = 200 * time.Millisecond

// maxAffected is the maximum number of selectors that are kept for a namespace.
const maxAffected = 32

// affected holds the selectors of the Prefixes whose rules have changed, by namespace.
type affected struct {
	mu        sync.Mutex
	selectors map[string][]labels.Selector
}

// add adds selectors of a namespace. If they are too many, it replaces them by one that selects everything.
func (a *affected) add(namespace string, selectors []labels.Selector) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.selectors == nil {
		a.selectors = map[string][]labels.Selector{}
	}
	all := append(a.selectors[namespace], selectors...)
	if len(all) > maxAffected {
		all = []labels.Selector{labels.Everything()}
	}
	a.selectors[namespace] = all
}

// take returns the selectors of a namespace, and removes them.
func (a *affected) take(namespace string) []labels.Selector {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer delete(a.selectors, namespace)
	return a.selectors[namespace]
}

// rulesChanged records that the rules of the Prefixes that any of the selectors selects may have changed. There may be very
// many of these, so they are looked for in a queue: all namespaces share the event handler that calls this.
func (c *Controller) rulesChanged(namespace string, selectors []labels.Selector) {
	if len(selectors) == 0 {
		return
	}
	// These cannot wait: the scheduler may have other space for them now.
	for name := range c.heirs.take(namespace) {
		c.children.Add(name)
	}
	c.affected.add(namespace, selectors)
	c.rules.AddAfter(types.NamespacedName{Namespace: namespace}, rulesDelay)
}

// syncRules queues the Prefixes of a namespace whose rules may have changed, to update the usage in their status.
func (c *Controller) syncRules(_ context.Context, name types.NamespacedName) error {
	selectors := c.affected.take(name.Namespace)
	if len(selectors) == 0 {
		return nil
	}
	prefixes, err := c.prefixes.Prefixes(name.Namespace).List(labels.Everything())
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		for _, selector := range selectors {
			if selector.Matches(labels.Set(prefix.Labels)) {
				c.queueUsage(observe.NameOf(prefix))
				break
			}
		}
	}
	return nil
}
