// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

// maxExcess is the maximum number of reserved prefixes in all pools of a namespace, as counted by Pool.ReservedExcess. At
// about 150 bytes each, this limits the memory that one policy and many roots with the same range can take.
const maxExcess = 200_000

// excess limits the memory of the pools of one namespace that have many reserved prefixes. Pools can be built again from
// the prefixes in use and the rules, so it drops some when there are too many. Only the lock of the namespace protects it.
type excess struct {
	parents map[*parent]int
	sum     int
}

// set records how many reserved prefixes the pool of a parent has. If there are too many in all, it drops the pools of
// other parents.
func (e *excess) set(p *parent, count int) {
	e.sum += count - e.parents[p]
	if count == 0 {
		delete(e.parents, p)
		return
	}
	if e.parents == nil {
		e.parents = map[*parent]int{}
	}
	e.parents[p] = count
	for other := range e.parents {
		if e.sum <= maxExcess {
			break
		}
		if other != p {
			other.dropPool()
		}
	}
}

// dropPool drops the pool of the parent. It is built again when it is used.
func (p *parent) dropPool() {
	p.ledger.UnsetPrefix()
	p.excess.set(p, 0)
}
