// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MaxOverlapsNamed is how many of the roots that overlap a new one an answer names.
const MaxOverlapsNamed = 5

// OverlapsRoot returns the error for a new root that overlaps a root of the same namespace.
func OverlapsRoot(prefix netip.Prefix, other *ipam.Prefix) *field.Error {
	return field.Forbidden(field.NewPath("spec", "prefix"), fmt.Sprintf("%s overlaps the root %s (%s)", prefix, other.Name, other.Spec.Prefix))
}
