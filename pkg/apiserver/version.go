// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	apimachineryversion "k8s.io/apimachinery/pkg/version"
	basecompatibility "k8s.io/component-base/compatibility"
)

// effectiveVersion is the version of the Kubernetes libraries, on which feature gates depend. Only Info, which is
// served at /version, returns the version of this program.
type effectiveVersion struct {
	basecompatibility.EffectiveVersion
}

// Info implements basecompatibility.EffectiveVersion.
func (effectiveVersion) Info() *apimachineryversion.Info { return version.Info() }
