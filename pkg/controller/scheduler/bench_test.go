// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package scheduler

import (
	"fmt"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
)

// BenchmarkAssume assumes a place for a request, by name and by a selector that matches many parents, and
// releases it. The parents have a few children each.
func BenchmarkAssume(b *testing.B) {
	for _, strategy := range []string{"Pack", "Spread"} {
		for _, parents := range []int{1, 100, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", strategy, parents), func(b *testing.B) {
				score, err := ParseStrategy(strategy)
				if err != nil {
					b.Fatal(err)
				}
				f := newFixture(score)
				for i := range parents {
					name := fmt.Sprintf("p%d", i)
					f.set(prefix(name, fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), labelled("net", "a")))
					for k := range 4 {
						f.holds(fmt.Sprintf("%s-%d", name, k), name, fmt.Sprintf("10.%d.%d.%d/28", i/256, i%256, 32*k))
					}
				}
				c := want(b, "c", "IPv4/29", "net=a")
				for b.Loop() {
					if _, why := f.assume(c); why != nil {
						b.Fatal(why)
					}
					f.forgetAssumed(c.name)
				}
			})
		}
	}
}

// BenchmarkRelease releases a place while very many requests wait. None of them can use the place.
func BenchmarkRelease(b *testing.B) {
	for _, waiting := range []int{0, 100, 10000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			f := newFixture(Pack)
			f.set(prefix("root", "10.0.0.0/30", labelled("net", "a")))
			f.holds("one", "root", "10.0.0.0/32")
			f.holds("two", "root", "10.0.0.2/32")
			for i := range waiting {
				f.assume(want(b, fmt.Sprintf("c%d", i), "IPv4/31", "net=a"))
			}
			for b.Loop() {
				f.holds("three", "root", "10.0.0.1/32")
				f.gone("three")
			}
		})
	}
}

// BenchmarkReleaseShared has a child of a shared parent come and go while requests of another namespace wait, each with a
// selector of its own that matches nothing.
func BenchmarkReleaseShared(b *testing.B) {
	for _, waiting := range []int{0, 500, 50_000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			f := newFixture(Pack)
			f.setPolicy(with(rules("shared", ""), func(spec *v1alpha1.PrefixPolicySpec) { spec.SharedWith = &v1alpha1.PrefixSharing{All: true} }))
			f.set(prefix("root", "10.0.0.0/24", labelled("net", "a")))
			for i := range waiting {
				c := want(b, fmt.Sprintf("c%d", i), "IPv4/31", fmt.Sprintf("net=n%d", i))
				c.name.Namespace = "other"
				f.assume(c)
			}
			for b.Loop() {
				f.holds("of-child", "root", "10.0.0.0/28")
				f.set(prefix("child", "10.0.0.0/28", below("root")))
				f.deletePrefix(key("child"), "uid-of-child")
				f.gone("of-child")
			}
		})
	}
}
