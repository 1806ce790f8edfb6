// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/types"
)

// Keyspace builds and parses the keys in etcd that this package uses.
type Keyspace struct {
	// prefix is the common prefix of the keys of claims, roots that of the keys of namespaces that have roots. Both
	// end in a slash.
	prefix, roots string
}

// Range is a range of keys. It includes Start and excludes End.
type Range struct{ Start, End string }

// NewKeyspace returns the keyspace below the prefix that the API server has in etcd.
func NewKeyspace(etcdPrefix string) Keyspace {
	return Keyspace{path.Join("/", etcdPrefix, "claims") + "/", path.Join("/", etcdPrefix, "roots") + "/"}
}

// rootsOf returns the key that is written with each root that is created in a namespace.
func (k Keyspace) rootsOf(namespace string) string { return k.roots + namespace }

// All returns the range of all claims.
func (k Keyspace) All() Range {
	return Range{k.prefix, clientv3.GetPrefixRangeEnd(k.prefix)}
}

// Of returns the range of all claims to space of a parent.
func (k Keyspace) Of(parent types.UID) Range {
	start := k.prefix + string(parent) + "/"
	return Range{start, clientv3.GetPrefixRangeEnd(start)}
}

// Claim returns the key of the claim to a prefix of a parent.
func (k Keyspace) Claim(parent types.UID, prefix netip.Prefix) string {
	return k.at(parent, prefix.Addr()) + lengthOf(prefix.Bits())
}

// at returns the common prefix of the keys of all claims that start at an address.
func (k Keyspace) at(parent types.UID, addr netip.Addr) string {
	return k.prefix + string(parent) + "/" + hex.EncodeToString(addr.AsSlice()) + "/"
}

// lengthOf formats a prefix length with three digits, so that the keys sort by length.
func lengthOf(bits int) string { return fmt.Sprintf("%03d", bits) }

// Inside returns the range of the claims that start at an address of prefix. These are the claim to prefix itself,
// those inside it, and those to larger prefixes with the same first address.
func (k Keyspace) Inside(parent types.UID, prefix netip.Prefix) Range {
	return Range{
		k.at(parent, prefix.Addr()),
		clientv3.GetPrefixRangeEnd(k.at(parent, cidr.Last(prefix))),
	}
}

// Around returns the ranges of the claims that Inside misses: claims to prefixes that contain prefix, are strictly
// inside parentPrefix, and have another first address than prefix. Such claims with a common first address have
// adjacent keys and need only one range.
func (k Keyspace) Around(parent types.UID, parentPrefix, prefix netip.Prefix) []Range {
	var ranges []Range
	for a := range cidr.Around(parentPrefix, prefix) {
		at := k.at(parent, a.Addr)
		ranges = append(ranges, Range{at + lengthOf(a.Shortest), at + lengthOf(a.Longest+1)})
	}
	return ranges
}

// Parse returns the parent and the prefix in the key of a claim. It is an error if the key is not in canonical form.
func (k Keyspace) Parse(key string) (parent types.UID, prefix netip.Prefix, err error) {
	rest, ok := strings.CutPrefix(key, k.prefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return "", netip.Prefix{}, fmt.Errorf("invalid key of a claim: %q", key)
	}
	raw, err := hex.DecodeString(parts[1])
	if err != nil {
		return "", netip.Prefix{}, fmt.Errorf("address in the key of a claim %q: %w", key, err)
	}
	addr, ok := netip.AddrFromSlice(raw)
	bits, err := strconv.Atoi(parts[2])
	if !ok || err != nil {
		return "", netip.Prefix{}, fmt.Errorf("invalid key of a claim: %q", key)
	}
	prefix = netip.PrefixFrom(addr, bits)
	// Accept only what Claim returns: the ranges above find no other form.
	if parent = types.UID(parts[0]); !prefix.IsValid() || prefix.Masked() != prefix || k.Claim(parent, prefix) != key {
		return "", netip.Prefix{}, fmt.Errorf("invalid key of a claim: %q", key)
	}
	return parent, prefix, nil
}
