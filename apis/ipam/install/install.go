// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package install adds all versions of the API group to a scheme.
package install

import (
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// Install adds the hub types and all served versions to the scheme. It sets the preferred version.
func Install(scheme *runtime.Scheme) {
	utilruntime.Must(ipam.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.Install(scheme))
	utilruntime.Must(scheme.SetVersionPriority(schema.GroupVersion(v1alpha1.GroupVersion)))
}
