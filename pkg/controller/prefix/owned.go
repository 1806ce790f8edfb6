// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package prefix

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// owned maps each Prefix to the names of its PrefixAllocations, according to the informer. An index of the
// informer would need 330 bytes for each PrefixAllocation. It is safe for concurrent use.
type owned struct {
	mu sync.RWMutex
	// one holds one allocation of each owner. more holds the others, if there are any.
	one  map[owner]string
	more map[owner][]string
}

// owner identifies a Prefix. Owner references are valid only within one namespace.
type owner struct {
	namespace string
	uid       types.UID
}

func newOwned() *owned {
	return &owned{one: map[owner]string{}, more: map[owner][]string{}}
}

// add records that an allocation belongs to an owner.
func (o *owned) add(of owner, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if one, ok := o.one[of]; ok && one != name {
		if !slices.Contains(o.more[of], name) {
			o.more[of] = append(o.more[of], name)
		}
		return
	}
	// Replace the string even if the name is known. The cache holds the newest version of the object, so its
	// string costs no extra memory. The string of an earlier version would retain memory of that version.
	o.one[of] = name
}

// remove records that an allocation is gone.
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
