// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Children returns how many prefixes are allocated from a Prefix, without those that cool down. 0 is exact, because it is
// read from the claims, unless very many cool down. Any other number may be a moment old: it is status.usage.allocations, or
// the number of claims if the status counts none yet.
func (pl *Planner) Children(ctx context.Context, prefix *ipam.Prefix) (int64, error) {
	claims := pl.Keys.Of(prefix.UID)
	kv, err := pl.FirstOf(ctx, claims)
	if err != nil || kv == nil {
		return 0, err
	}
	if cools, err := pl.mayCool(ctx, prefix); err != nil {
		return 0, err
	} else if cools {
		return pl.childrenBesideCooling(ctx, prefix)
	}
	if usage := prefix.Status.Usage; usage != nil && usage.Allocations > 0 {
		return usage.Allocations, nil
	}
	// The status is at most a moment old, so there are few claims to count.
	response, err := pl.KV.Get(ctx, claims.Start, clientv3.WithRange(claims.End), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return response.Count, nil
}

// mayCool reports whether space of a Prefix may cool down.
func (pl *Planner) mayCool(ctx context.Context, prefix *ipam.Prefix) (bool, error) {
	if usage := prefix.Status.Usage; usage != nil && usage.Cooling != "" {
		return true, nil
	}
	d, err := pl.mustSources().CoolDown(ctx, prefix.Namespace, prefix.Labels)
	return d > 0, err
}

// childrenBesideCooling implements Children for a Prefix of which space cools down. It looks at the holders of the first
// claims. If they all cool down and there are more, it returns what the status says.
func (pl *Planner) childrenBesideCooling(ctx context.Context, prefix *ipam.Prefix) (int64, error) {
	kvs, _, err := pl.Next(ctx, pl.Keys.Of(prefix.UID), MaxTxnOps+1)
	if err != nil {
		return 0, err
	}
	most := min(len(kvs), MaxTxnOps)
	gets := make([]clientv3.Op, 0, most)
	for _, kv := range kvs[:most] {
		_, h, err := pl.holderIn(kv)
		if err != nil {
			return 0, err
		}
		gets = append(gets, clientv3.OpGet(pl.Allocations.Key(h.Namespace, h.Name)))
	}
	if len(gets) == 0 {
		return 0, nil
	}
	response, err := pl.KV.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return 0, err
	}
	cooling := 0
	for _, answer := range answersOf(response) {
		allocation := &ipam.PrefixAllocation{}
		if kv := first(answer); kv != nil && pl.Allocations.Decode(ctx, kv, allocation) == nil && allocation.Status.CoolingUntil != nil {
			cooling++
		}
	}
	usage := prefix.Status.Usage
	switch {
	case len(kvs) <= MaxTxnOps:
		return int64(most - cooling), nil
	case usage != nil && usage.Allocations > 0:
		return usage.Allocations, nil
	case cooling < most:
		return int64(most - cooling), nil
	}
	return 0, nil
}

// Holder returns a prefix that is allocated from parent and overlaps wanted, and describes who holds it to a reader of a
// namespace. If there is none, the returned prefix is not valid.
func (pl *Planner) Holder(ctx context.Context, parent *ipam.Prefix, wanted netip.Prefix, namespace string) (netip.Prefix, string, error) {
	whole, err := cidr.ParseStored(parent.Spec.Prefix)
	if err != nil {
		return netip.Prefix{}, "", fmt.Errorf("prefix of the parent: %w", err)
	}
	kv, err := pl.FirstOf(ctx, pl.Keys.Inside(parent.UID, wanted))
	if err != nil {
		return netip.Prefix{}, "", err
	}
	if kv == nil {
		if kv, err = pl.firstOfFew(ctx, pl.Keys.Around(parent.UID, whole, wanted)); err != nil || kv == nil {
			return netip.Prefix{}, "", err
		}
	}
	held, h, err := pl.holderIn(kv)
	if err != nil {
		return netip.Prefix{}, "", err
	}
	shown, who := pl.shownTo(ctx, namespace, parent.Namespace, wanted, held, h)
	return shown, who, nil
}

// shownTo returns what a reader of a namespace is told of a holder: what it holds, and who it is. The holders of another
// namespace are not named. A reader of another namespace than that of the parent is not even told how much of the wanted
// prefix they hold.
func (pl *Planner) shownTo(ctx context.Context, namespace, parentNamespace string, wanted, held netip.Prefix, h Holder) (shown netip.Prefix, who string) {
	if namespace != parentNamespace && h.Namespace != namespace {
		held = wanted
	}
	return held, pl.describeTo(ctx, namespace, h)
}

// describeTo is describe for a reader of a namespace, who does not learn about another one.
func (pl *Planner) describeTo(ctx context.Context, namespace string, h Holder) string {
	if h.Namespace != "" && h.Namespace != namespace {
		return "another namespace"
	}
	return pl.describe(ctx, h)
}

// firstOfFew returns a key of the first range that is not empty, or nil if all are. It reads the ranges completely
// and many in one transaction, so each of them must have few keys.
func (pl *Planner) firstOfFew(ctx context.Context, ranges []Range) (*mvccpb.KeyValue, error) {
	for chunk := range slices.Chunk(ranges, MaxTxnOps) {
		gets := make([]clientv3.Op, 0, len(chunk))
		for _, r := range chunk {
			gets = append(gets, clientv3.OpGet(r.Start, clientv3.WithRange(r.End)))
		}
		response, err := pl.KV.Txn(ctx).Then(gets...).Commit()
		if err != nil {
			return nil, err
		}
		for _, answer := range answersOf(response) {
			if kv := first(answer); kv != nil {
				return kv, nil
			}
		}
	}
	return nil, nil
}

// holderIn returns the prefix of a claim and its first holder. If the holder is not known, it has no name.
func (pl *Planner) holderIn(kv *mvccpb.KeyValue) (netip.Prefix, Holder, error) {
	_, held, err := pl.Keys.Parse(string(kv.Key))
	if err != nil {
		return netip.Prefix{}, Holder{}, err
	}
	// A claim that cannot be decoded still holds its prefix.
	if value, err := DecodeClaim(kv.Value); err == nil && len(value.Holders) > 0 {
		return held, value.Holders[0], nil
	}
	return held, Holder{}, nil
}

// describe names the holder of a claim: the Prefix that it was made for and the controller of that, or else the
// PrefixAllocation.
func (pl *Planner) describe(ctx context.Context, h Holder) string {
	switch {
	case h.Name == "":
		return "an unknown PrefixAllocation"
	case h.Child == nil:
		return "PrefixAllocation " + h.Name
	}
	text := "Prefix " + h.Child.Name
	child, revision, err := cached{pl}.prefix(ctx, h.Namespace, h.Child.Name)
	if err != nil || revision == 0 || !h.Child.is(child) {
		return text
	}
	if controller := metav1.GetControllerOfNoCopy(child); controller != nil && isName(controller.Kind) && isName(controller.Name) {
		text += fmt.Sprintf(" of %s %s", controller.Kind, controller.Name)
	}
	return text
}

// isName reports whether text can be the kind or the name of an object. An owner reference can contain any text, also a
// long one, and describe repeats it in a response to another user.
func isName(text string) bool {
	return len(text) <= validation.DNS1123SubdomainMaxLength && utf8.ValidString(text) &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}
