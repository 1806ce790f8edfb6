// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"container/heap"
	"math/big"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/request"
	"k8s.io/apimachinery/pkg/labels"
)

// maxSelections is how many selectors a namespace remembers. More are fine, but each time one comes that
// is not remembered, all Prefixes of the namespace are looked at.
const maxSelections = 64

// selection is what a selector selects, so that a candidate need not look at every Prefix.
type selection struct {
	selector labels.Selector
	// parents are those that match, by name.
	parents map[string]*parent
	// rankings are the orders in which they are to be chosen for any prefix of a length.
	rankings map[shape]*ranking
	// used tells which selection was used last.
	used uint64
}

// shape is what requests for any prefix of a length differ in.
type shape struct {
	family v1alpha1.IPFamily
	bits   int
}

// selection returns what a selector selects now.
func (ns *namespace) selection(selector labels.Selector) *selection {
	key := selector.String()
	s := ns.selections[key]
	if s == nil {
		if len(ns.selections) >= maxSelections {
			ns.dropSelection()
		}
		s = &selection{selector: selector, parents: map[string]*parent{}, rankings: map[shape]*ranking{}}
		for name, p := range ns.parents {
			if p.uid != "" && selector.Matches(p.labels) {
				s.parents[name] = p
			}
		}
		ns.selections[key] = s
	}
	ns.uses++
	s.used = ns.uses
	return s
}

// dropSelection forgets the selection that was not used for longest.
func (ns *namespace) dropSelection() {
	var oldest string
	for key, s := range ns.selections {
		if oldest == "" || s.used < ns.selections[oldest].used {
			oldest = key
		}
	}
	delete(ns.selections, oldest)
}

// changed takes in that a parent, or what is free of it, is not what it was.
func (ns *namespace) changed(name string) {
	p := ns.parents[name]
	for _, s := range ns.selections {
		if p != nil && p.uid != "" && s.selector.Matches(p.labels) {
			s.parents[name] = p
		} else if _, ok := s.parents[name]; ok {
			delete(s.parents, name)
		} else {
			continue
		}
		for _, r := range s.rankings {
			r.rank(name, s.parents[name])
		}
	}
}

// best returns the name of the parent to allocate any prefix of a length from, if one can hold it.
func (s *selection) best(score Strategy, r request.Request) (name string, ok bool) {
	key := shape{r.Family, r.Bits}
	ranking := s.rankings[key]
	if ranking == nil {
		ranking = newRanking(score, r)
		for name, p := range s.parents {
			ranking.rank(name, p)
		}
		s.rankings[key] = ranking
	}
	if len(ranking.places) == 0 {
		return "", false
	}
	return ranking.places[0].name, true
}

// ranking has the parents that can hold a request, the best one first, and by name where they are
// equally good. It is a heap.
type ranking struct {
	score   Strategy
	request request.Request
	places  []*place
	byName  map[string]*place
}

// place is that of a parent in a ranking.
type place struct {
	name  string
	score *big.Int
	index int
}

func newRanking(score Strategy, r request.Request) *ranking {
	return &ranking{score: score, request: r, byName: map[string]*place{}}
}

// rank gives a parent the place that it deserves now. There is no such parent if it is nil.
func (r *ranking) rank(name string, p *parent) {
	at := r.byName[name]
	switch able := p != nil && p.usable() && p.room(r.request); {
	case able && at == nil:
		heap.Push(r, &place{name: name, score: r.score(p.pool(), r.request)})
	case able:
		at.score = r.score(p.pool(), r.request)
		heap.Fix(r, at.index)
	case at != nil:
		heap.Remove(r, at.index)
	}
}

// Len implements heap.Interface.
func (r *ranking) Len() int { return len(r.places) }

// Less implements heap.Interface.
func (r *ranking) Less(i, j int) bool {
	a, b := r.places[i], r.places[j]
	if c := a.score.Cmp(b.score); c != 0 {
		return c > 0
	}
	return a.name < b.name
}

// Swap implements heap.Interface.
func (r *ranking) Swap(i, j int) {
	r.places[i], r.places[j] = r.places[j], r.places[i]
	r.places[i].index, r.places[j].index = i, j
}

// Push implements heap.Interface.
func (r *ranking) Push(x any) {
	p := x.(*place)
	p.index = len(r.places)
	r.places = append(r.places, p)
	r.byName[p.name] = p
}

// Pop implements heap.Interface.
func (r *ranking) Pop() any {
	last := len(r.places) - 1
	p := r.places[last]
	r.places[last] = nil
	r.places = r.places[:last]
	delete(r.byName, p.name)
	return p
}
