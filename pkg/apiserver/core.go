// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	genericapiserver "k8s.io/apiserver/pkg/server"
)

// installCore adds version v1 of the core group to discovery, without resources. In a cluster, kube-apiserver serves
// it. kubectl needs it for the kind List, in which it prints and reads several objects.
func installCore(server *genericapiserver.GenericAPIServer, addresses discovery.Addresses) {
	v1 := schema.GroupVersion{Version: "v1"}
	groups := server.AggregatedLegacyDiscoveryGroupManager
	groups.AddGroupVersion(v1.Group, apidiscoveryv2.APIVersionDiscovery{
		Version: v1.Version, Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
	})
	root := discovery.NewLegacyRootAPIHandler(addresses, server.Serializer, genericapiserver.DefaultLegacyAPIPrefix)
	nothing := discovery.APIResourceListerFunc(func() []metav1.APIResource { return []metav1.APIResource{} })
	mux := server.Handler.NonGoRestfulMux
	mux.Handle("/api", aggregated.WrapAggregatedDiscoveryToHandler(root, groups, groups))
	mux.Handle("/api/v1", discovery.NewAPIVersionHandler(server.Serializer, v1, nothing))
}
