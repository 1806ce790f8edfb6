// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package behaviour

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// usageIs waits until a Prefix has the given usage.
func (e *env) usageIs(name string, want v1alpha1.PrefixUsage) {
	e.Helper()
	e.Eventually("usage of "+name, func() error {
		if p := e.Get(name); !equality.Semantic.DeepEqual(p.Status.Usage, &want) {
			wanted, _ := json.Marshal(want)
			return fmt.Errorf("want %s: %s", wanted, harness.Describe(p))
		}
		return nil
	})
}

func TestUsage(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/24")
		e.usageIs("root", v1alpha1.PrefixUsage{Total: "256", Used: "0", Free: "256", LargestFree: "/25"})
		for _, child := range []struct {
			name   string
			length int32
			want   v1alpha1.PrefixUsage
		}{
			{"a", 26, v1alpha1.PrefixUsage{Total: "256", Used: "64", Free: "192", Percent: 25, Allocations: 1, LargestFree: "/25"}},
			{"b", 28, v1alpha1.PrefixUsage{Total: "256", Used: "80", Free: "176", Percent: 31, Allocations: 2, LargestFree: "/25"}},
			{"c", 25, v1alpha1.PrefixUsage{Total: "256", Used: "208", Free: "48", Percent: 81, Allocations: 3, LargestFree: "/27"}},
			{"d", 27, v1alpha1.PrefixUsage{Total: "256", Used: "240", Free: "16", Percent: 93, Allocations: 4, LargestFree: "/28"}},
			{"e", 28, v1alpha1.PrefixUsage{Total: "256", Used: "256", Free: "0", Percent: 100, Allocations: 5}},
		} {
			e.create(child.name, harness.Length(child.length), harness.From("root"))
			e.allocated(child.name)
			e.usageIs("root", child.want)
		}
		e.AtRest()
		for _, name := range []string{"a", "b", "c", "d"} {
			e.Delete(name)
			e.Gone(name)
		}
		e.usageIs("root", v1alpha1.PrefixUsage{Total: "256", Used: "16", Free: "240", Percent: 6, Allocations: 1, LargestFree: "/25"})
		e.Delete("e")
		e.usageIs("root", v1alpha1.PrefixUsage{Total: "256", Used: "0", Free: "256", LargestFree: "/25"})
	})

	t.Run("IPv6", func(t *testing.T) {
		e := in(t)
		e.root("root", "2001:db8::/32")
		e.create("half", harness.Length(33), harness.From("root"))
		e.create("one", harness.Length(128), harness.From("root"))
		e.allocated("half")
		e.allocated("one")
		e.usageIs("root", v1alpha1.PrefixUsage{
			Total: "79228162514264337593543950336", Used: "39614081257132168796771975169", Free: "39614081257132168796771975167",
			Percent: 50, Allocations: 2, LargestFree: "/34",
		})
	})

	// IPv4-mapped addresses are never allocated.
	t.Run("all of IPv6", func(t *testing.T) {
		e := in(t)
		e.root("root", "::/0")
		e.create("half", harness.Length(1), harness.From("root"))
		e.allocated("half")
		e.usageIs("root", v1alpha1.PrefixUsage{
			Total: "340282366920938463463374607431768211456", Used: "170141183460469231731687303715884105728",
			Free: "170141183460469231731687303711589138432", Percent: 50, Allocations: 1, LargestFree: "/2",
		})
	})

	t.Run("a single address", func(t *testing.T) {
		e := in(t)
		e.root("root", "192.0.2.1/32")
		e.usageIs("root", v1alpha1.PrefixUsage{Total: "1", Used: "0", Free: "1"})
	})

	t.Run("a child has one too", func(t *testing.T) {
		e := in(t)
		e.root("root", "10.0.0.0/16")
		e.create("middle", harness.Length(24), harness.From("root"))
		e.create("leaf", harness.Length(25), harness.From("middle"))
		e.allocated("leaf")
		e.usageIs("middle", v1alpha1.PrefixUsage{Total: "256", Used: "128", Free: "128", Percent: 50, Allocations: 1, LargestFree: "/25"})
		e.usageIs("root", v1alpha1.PrefixUsage{Total: "65536", Used: "256", Free: "65280", Percent: 0, Allocations: 1, LargestFree: "/17"})
	})
}

// TestUsedIsSorted uses prefixes that sort differently by address and as text.
func TestUsedIsSorted(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/8")
	want := []string{"10.0.2.0/24", "10.0.9.0/32", "10.0.10.0/25", "10.0.10.128/26", "10.0.11.0/32", "10.9.0.0/16", "10.100.0.0/16"}
	shuffled := slices.Clone(want)
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for i, prefix := range shuffled {
		e.create(fmt.Sprintf("child-%d", i), harness.Exactly(prefix), harness.From("root"))
	}
	e.used("root", want...)
	e.Delete("child-3")
	e.used("root", slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == shuffled[3] })...)
	e.AtRest()
}

// TestUsedOfManyWriters creates and deletes children concurrently. In the end the status of the parent is correct.
func TestUsedOfManyWriters(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/16")
	const children = 60
	harness.Each(children, 12, func(i int) {
		name := fmt.Sprintf("child-%d", i)
		if _, err := e.Prefixes.Create(t.Context(), harness.NewPrefix(name, harness.Length(24), harness.From("root")), createOptions); err != nil {
			t.Error(err)
			return
		}
		if i%2 == 0 {
			return
		}
		if err := e.soon(func() (bool, error) {
			p, err := e.Prefixes.Get(t.Context(), name, getOptions)
			return err == nil && p.Status.Phase == v1alpha1.PrefixPhaseAllocated, err
		}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := e.Prefixes.Delete(t.Context(), name, deleteOptions); err != nil {
			t.Error(err)
		}
	})
	for i := range children {
		if name := fmt.Sprintf("child-%d", i); i%2 == 0 {
			e.allocated(name)
		} else {
			e.Gone(name)
		}
	}
	e.AtRest()
	e.Eventually("half of them", func() error {
		if root := e.Get("root"); root.Status.Usage.Allocations != children/2 {
			return errors.New(harness.Describe(root))
		}
		return nil
	})
}

// TestUsedByOthers overwrites what the controller wrote to the status of a parent. The controller puts it right.
func TestUsedByOthers(t *testing.T) {
	e := in(t)
	e.root("root", "10.0.0.0/24")
	e.create("a", harness.Length(26), harness.From("root"))
	a := e.allocated("a")
	e.usageIs("root", v1alpha1.PrefixUsage{Total: "256", Used: "64", Free: "192", Percent: 25, Allocations: 1, LargestFree: "/25"})
	for _, patch := range []string{
		`{"status": {"used": ["10.0.0.128/25"]}}`, `{"status": {"used": null}}`, `{"status": {"usage": null}}`, `{"status": {"usage": {"free": "7"}}}`,
	} {
		if _, err := e.Prefixes.Patch(e.Context(), "root", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		e.Eventually("status after "+patch, func() error {
			if p := e.Get("root"); !slices.Equal(p.Status.Used, []string{a.Spec.Prefix}) {
				return errors.New(harness.Describe(p))
			}
			return nil
		})
		e.usageIs("root", v1alpha1.PrefixUsage{Total: "256", Used: "64", Free: "192", Percent: 25, Allocations: 1, LargestFree: "/25"})
	}
}
