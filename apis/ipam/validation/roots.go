// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"net/netip"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MaxOverlapsNamed is the maximum number of overlapping roots that an error names.
const MaxOverlapsNamed = 5

// OverlapsRoot returns the error for a new root that overlaps another root of its namespace.
func OverlapsRoot(prefix netip.Prefix, other *ipam.Prefix) *field.Error {
	return field.Forbidden(field.NewPath("spec", "prefix"), fmt.Sprintf("%s overlaps the root %s (%s)", prefix, other.Name, other.Spec.Prefix))
}
