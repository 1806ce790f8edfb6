// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package fuzzer fills objects of the API group with random values, for round-trip tests.
package fuzzer

import (
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	runtimeserializer "k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/randfill"
)

// Funcs returns the functions that fill hub types. Defaulting does not change the result: if a prefix can be
// parsed, the family is set.
func Funcs(runtimeserializer.CodecFactory) []any {
	return []any{
		func(spec *ipam.PrefixSpec, c randfill.Continue) {
			c.FillNoCustom(spec)
			spec.IPFamily, spec.Prefix = request(c)
		},
		func(spec *ipam.PrefixAllocationSpec, c randfill.Continue) {
			c.FillNoCustom(spec)
			spec.IPFamily, spec.Prefix = request(c)
		},
		func(status *ipam.PrefixStatus, c randfill.Continue) {
			c.FillNoCustom(status)
			for i := range status.Used {
				status.Used[i] = prefixString(c)
			}
		},
		func(status *ipam.PrefixAllocationStatus, c randfill.Continue) {
			c.FillNoCustom(status)
			status.Prefix = prefixString(c)
		},
		func(reservation *ipam.PrefixReservation, c randfill.Continue) {
			c.FillNoCustom(reservation)
			reservation.CIDR = prefixString(c)
		},
	}
}

// request returns a random family and prefix. They may contradict each other, because only validation rejects that.
func request(c randfill.Continue) (ipam.IPFamily, string) {
	families := []ipam.IPFamily{"", ipam.IPv4, ipam.IPv6, ipam.IPFamily(c.String(0))}
	family, prefix := families[c.Intn(len(families))], prefixString(c)
	if parsed, err := cidr.ParseStored(prefix); family == "" && err == nil {
		family = ipam.IPFamily(cidr.FamilyOf(parsed))
	}
	return family, prefix
}

// prefixString returns a valid prefix, an invalid one, or an empty string.
func prefixString(c randfill.Continue) string {
	switch c.Intn(4) {
	case 0:
		return ""
	case 1:
		return c.String(0)
	case 2:
		var addr [4]byte
		_, _ = c.Read(addr[:])
		return netip.PrefixFrom(netip.AddrFrom4(addr), c.Intn(33)).String()
	default:
		var addr [16]byte
		_, _ = c.Read(addr[:])
		return netip.PrefixFrom(netip.AddrFrom16(addr), c.Intn(129)).Masked().String()
	}
}
