// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// owned tells which PrefixAllocations are of which Prefix, according to the API. An index of the informer would take 330
// bytes for each of them. It is safe for concurrent use.
type owned struct {
	mu sync.RWMutex
	// one is the name of one allocation of each owner, and more are those of the others that it has, if any.
	one  map[owner]string
	more map[owner][]string
}

// owner is a Prefix. A reference to it is worth something in its own namespace only.
type owner struct {
	namespace string
	uid       types.UID
}

func newOwned() *owned {
	return &owned{one: map[owner]string{}, more: map[owner][]string{}}
}

// add takes in that an allocation is of an owner.
func (o *owned) add(of owner, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if one, ok := o.one[of]; ok && one != name {
		if !slices.Contains(o.more[of], name) {
			o.more[of] = append(o.more[of], name)
		}
		return
	}
	// Also if it is known: what its name is a part of is there for it only otherwise.
	o.one[of] = name
}

// remove takes in that an allocation is gone.
func (o *owned) remove(of owner, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	more := slices.DeleteFunc(o.more[of], func(other string) bool { return other == name })
	if o.one[of] == name {
		delete(o.one, of)
		if len(more) > 0 {
			o.one[of], more = more[0], more[1:]
		}
	}
	if len(more) == 0 {
		delete(o.more, of)
		return
	}
	o.more[of] = more
}

// names returns the names of the allocations of an owner.
func (o *owned) names(of owner) []string {
	o.mu.RLock()
	defer o.mu.RUnlock()
	one, ok := o.one[of]
	if !ok {
		return nil
	}
	return append([]string{one}, o.more[of]...)
}
