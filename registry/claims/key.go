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

// keyspace tells where the claims are in etcd.
type keyspace struct {
	// prefix is that of the claims, roots that of the keys of namespaces with roots. Both end in a slash.
	prefix, roots string
}

// keyRange is a range of keys, the end exclusive.
type keyRange struct{ start, end string }

func newKeyspace(etcdPrefix string) keyspace {
	return keyspace{path.Join("/", etcdPrefix, "claims") + "/", path.Join("/", etcdPrefix, "roots") + "/"}
}

// rootsOf is the key that changes with each root that is created in a namespace.
func (k keyspace) rootsOf(namespace string) string { return k.roots + namespace }

// all is the range of all claims.
func (k keyspace) all() keyRange {
	return keyRange{k.prefix, clientv3.GetPrefixRangeEnd(k.prefix)}
}

// of is the range of the claims to a parent.
func (k keyspace) of(parent types.UID) keyRange {
	start := k.prefix + string(parent) + "/"
	return keyRange{start, clientv3.GetPrefixRangeEnd(start)}
}

// claim is the key of the claim to a prefix.
func (k keyspace) claim(parent types.UID, prefix netip.Prefix) string {
	return k.at(parent, prefix.Addr()) + lengthOf(prefix.Bits())
}

// at is the beginning of the keys of the claims that begin at an address.
func (k keyspace) at(parent types.UID, addr netip.Addr) string {
	return k.prefix + string(parent) + "/" + hex.EncodeToString(addr.AsSlice()) + "/"
}

// lengthOf writes a length so that the order of the keys is that of the lengths.
func lengthOf(bits int) string { return fmt.Sprintf("%03d", bits) }

// inside is the range of the claims that begin inside a prefix: everything that lies in it, itself,
// and what contains it and begins at the same address.
func (k keyspace) inside(parent types.UID, prefix netip.Prefix) keyRange {
	return keyRange{
		k.at(parent, prefix.Addr()),
		clientv3.GetPrefixRangeEnd(k.at(parent, cidr.Last(prefix))),
	}
}

// around are the ranges of the claims that contain a prefix, lie in the parent's, and begin at
// another address than the prefix, so that they are not inside. Claims that begin at the same
// address are neighbours: there are only as many ranges as there are ones among the bits of the
// prefix below the parent's.
func (k keyspace) around(parent types.UID, parentPrefix, prefix netip.Prefix) []keyRange {
	var ranges []keyRange
	for bits := prefix.Bits() - 1; bits > parentPrefix.Bits(); {
		ancestor := netip.PrefixFrom(prefix.Addr(), bits).Masked()
		if ancestor.Addr() == prefix.Addr() {
			bits--
			continue
		}
		// Shorter ones begin at the same address as long as they lose only zeros.
		shortest := bits
		for shortest-1 > parentPrefix.Bits() && netip.PrefixFrom(prefix.Addr(), shortest-1).Masked().Addr() == ancestor.Addr() {
			shortest--
		}
		at := k.at(parent, ancestor.Addr())
		ranges = append(ranges, keyRange{at + lengthOf(shortest), at + lengthOf(bits+1)})
		bits = shortest - 1
	}
	return ranges
}

// parse tells what a key of a claim means.
func (k keyspace) parse(key string) (parent types.UID, prefix netip.Prefix, err error) {
	rest, ok := strings.CutPrefix(key, k.prefix)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return "", netip.Prefix{}, fmt.Errorf("not the key of a claim: %q", key)
	}
	raw, err := hex.DecodeString(parts[1])
	if err != nil {
		return "", netip.Prefix{}, fmt.Errorf("address in the key of a claim %q: %w", key, err)
	}
	addr, ok := netip.AddrFromSlice(raw)
	bits, err := strconv.Atoi(parts[2])
	if !ok || err != nil {
		return "", netip.Prefix{}, fmt.Errorf("not the key of a claim: %q", key)
	}
	prefix = netip.PrefixFrom(addr, bits)
	// There is only one way to write a key: no range would find another one.
	if parent = types.UID(parts[0]); !prefix.IsValid() || prefix.Masked() != prefix || k.claim(parent, prefix) != key {
		return "", netip.Prefix{}, fmt.Errorf("not the key of a claim: %q", key)
	}
	return parent, prefix, nil
}
