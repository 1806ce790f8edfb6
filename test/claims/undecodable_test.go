// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/registry/claims/audit"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestServesBesideWhatCannotBeDecoded has an object of each kind and a claim that cannot be decoded, from the start
// or while the server runs. The server serves everything else, and the space that they hold is not allocated.
func TestServesBesideWhatCannotBeDecoded(t *testing.T) {
	w := world{}
	root := w.addRoot(here, "root", "10.0.0.0/24")
	middle, _ := w.addChild(root, "middle", "10.0.0.0/26")
	w.addChild(middle, "below", "10.0.0.0/28")
	w.addChild(root, "whole", "10.0.0.64/26")
	_, lost := w.addChild(root, "lost", "10.0.0.128/26")
	unclaimed, _ := w.addChild(root, "unclaimed", "10.0.0.192/27")
	bad := []string{
		prefixKey(here, middle.Name), allocationKey(here, lost.Name), claimKey(root.UID, unclaimed.Spec.Prefix),
	}
	for _, atStart := range []bool{true, false} {
		t.Run(fmt.Sprintf("at the start: %t", atStart), func(t *testing.T) {
			dir := t.TempDir()
			s, stop := startEtcd(t, dir)
			s.put(t, w)
			garbage := func() {
				for _, key := range bad {
					s.put(t, world{key: "nonsense"})
				}
			}
			if atStart {
				garbage()
			}
			stop()
			instance := harness.Start(t, harness.DataDir(dir), harness.Controllers("*"), harness.Customize(func(o *apiserver.Options) { o.AuditInterval = 50 * time.Millisecond }))
			s = connect(t, instance.EtcdEndpoints)
			client := instance.Client
			prefixes, allocations := client.Prefixes(here), client.PrefixAllocations(here)
			if !atStart {
				if list, err := prefixes.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 6 {
					t.Fatalf("listed %v, %v", list, err)
				}
				garbage()
			}
			var got map[audit.DifferenceKind]int
			harness.Eventually(t, "the metric tells what cannot be decoded", func() error {
				got = metricsOf(t, instance)
				return harness.Unless(got[audit.Undecodable] == len(bad), "it tells %v", got)
			})

			// Lists and watches omit objects that cannot be decoded. The error of a get names the key.
			names := func() (names []string) {
				list, err := prefixes.List(t.Context(), metav1.ListOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range list.Items {
					names = append(names, p.Name)
				}
				return names
			}
			harness.Eventually(t, "the list leaves out what cannot be decoded", func() error {
				return harness.Unless(slices.Equal(names(), []string{"below", "lost", "root", "unclaimed", "whole"}), "listed %v", names())
			})
			for _, err := range []error{
				func() error { _, err := prefixes.Get(t.Context(), middle.Name, metav1.GetOptions{}); return err }(),
				prefixes.Delete(t.Context(), middle.Name, metav1.DeleteOptions{}),
				func() error { _, err := allocations.Get(t.Context(), lost.Name, metav1.GetOptions{}); return err }(),
			} {
				if !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "cannot be decoded") || !strings.Contains(err.Error(), here+"/") {
					t.Errorf("got %v", err)
				}
			}

			// There is space for one of these, and the others get none.
			create(t, prefixes, harness.Child("new", "root", harness.Length(27)))
			for i, prefix := range []string{"10.0.0.0/26", "10.0.0.16/28", "10.0.0.128/28", "10.0.0.192/27", "10.0.0.192/28"} {
				create(t, prefixes, harness.Child(fmt.Sprint("wants-", i), "root", harness.Exactly(prefix)))
			}
			create(t, prefixes, harness.Child("wants-below", "middle", harness.Length(28)))
			harness.Eventually(t, "new is Allocated", func() error {
				p, err := prefixes.Get(t.Context(), "new", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return harness.Unless(p.Status.Phase == v1alpha1.PrefixPhaseAllocated && p.Spec.Prefix == "10.0.0.224/27", "it is not")
			})
			stillWaiting := func() {
				t.Helper()
				for _, p := range must(prefixes.List(t.Context(), metav1.ListOptions{})).Items {
					if strings.HasPrefix(p.Name, "wants-") && p.Status.Phase == v1alpha1.PrefixPhaseAllocated {
						t.Errorf("%s got %s", p.Name, p.Spec.Prefix)
					}
				}
			}
			stillWaiting()

			// An audit reports them, and a repair moves them to lost+found. Their space remains in use.
			found := runAudit(t, s.flag(), "-o=json").expect(t, 1).report(t).Differences
			var keys []string
			for _, d := range found {
				if d.Kind == audit.Undecodable {
					keys = append(keys, d.Key)
				}
			}
			if slices.Sort(keys); !slices.Equal(keys, slices.Sorted(slices.Values(bad))) {
				t.Errorf("found %v", found)
			}
			repaired := runAudit(t, s.flag(), "-o=json", "--repair").report(t).Repaired
			if len(repaired) != len(bad) {
				t.Errorf("repaired %v", repaired)
			}
			now := s.world(t)
			for _, key := range bad {
				if moved := now[lostKey(key)]; moved != "nonsense" || now[key] == "nonsense" {
					t.Errorf("%s was not moved: %q", key, moved)
				}
			}
			for _, prefix := range []string{"10.0.0.128/26", "10.0.0.192/27"} {
				if value := now[claimKey(root.UID, prefix)]; !strings.Contains(value, `"uid"`) {
					t.Errorf("the claim to %s is %q", prefix, value)
				}
			}
			if now[claimKey(middle.UID, "10.0.0.0/28")] == "" {
				t.Error("the claim below what was moved is gone")
			}
			stillWaiting()
			harness.Eventually(t, "the metric tells that nothing is undecodable", func() error {
				got = metricsOf(t, instance)
				return harness.Unless(got[audit.Undecodable] == 0 && got[audit.ClaimWithoutAllocation] > 0, "it tells %v", got)
			})

			// When the key in lost+found is deleted, the space can be freed.
			if err := prefixes.Delete(t.Context(), "lost", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			harness.In(t, client, here).Gone("lost")
			runAudit(t, s.flag(), "--repair").expect(t, 1)
			if s.world(t)[claimKey(root.UID, "10.0.0.128/26")] == "" {
				t.Error("the claim is gone while its allocation is in lost+found")
			}
			s.delete(t, lostKey(allocationKey(here, lost.Name)))
			runAudit(t, s.flag(), "--repair")
			if s.world(t)[claimKey(root.UID, "10.0.0.128/26")] != "" {
				t.Error("the claim is still there")
			}
		})
	}
}

// lostKey returns the key in lost+found for a key.
func lostKey(key string) string {
	return etcdPrefix + "/lost+found" + strings.TrimPrefix(key, etcdPrefix)
}

// TestAuditWithoutKeys audits a store that is encrypted with a key that is not configured. It is not repaired.
func TestAuditWithoutKeys(t *testing.T) {
	t.Parallel()
	w := world{}
	for i := range 20 {
		w.addRoot(here, fmt.Sprint("root-", i), fmt.Sprintf("10.%d.0.0/16", i))
	}
	for key := range w {
		w[key] = "k8s:enc:secretbox:v1:one:" + w[key]
	}
	s := newEtcd(t, w)
	if got := runAudit(t, s.flag(), "--repair").expect(t, 1); got.stdout != "" || !strings.Contains(got.stderr, "decrypted") {
		t.Errorf("printed %.500s\n%.500s", got.stdout, got.stderr)
	}
	if got := s.world(t); len(got) != len(w) {
		t.Errorf("there are %d keys of %d left", len(got), len(w))
	}
}
