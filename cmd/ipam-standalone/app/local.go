// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"net/http"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// inProcess has a client reach a handler of this process without a connection.
func inProcess(config *rest.Config, handler http.Handler) *rest.Config {
	config.Transport, config.TLSClientConfig = standalone.Transport{Handler: handler}, rest.TLSClientConfig{}
	return config
}

// localClient is a client in the process of the server, which gets what it watches from there without its being encoded.
type localClient struct {
	versioned.Interface
	server *apiserver.Server
}

// newLocalClient returns a client of a server in this process.
func newLocalClient(config *rest.Config, server *apiserver.Server) (versioned.Interface, error) {
	client, err := versioned.NewForConfig(inProcess(config, server.Trusted()))
	return localClient{client, server}, err
}

// IpamV1alpha1 implements versioned.Interface.
func (c localClient) IpamV1alpha1() ipamclient.IpamV1alpha1Interface {
	return localGroup{c.Interface.IpamV1alpha1(), c.server}
}

type localGroup struct {
	ipamclient.IpamV1alpha1Interface
	server *apiserver.Server
}

// Prefixes implements ipamclient.IpamV1alpha1Interface.
func (g localGroup) Prefixes(namespace string) ipamclient.PrefixInterface {
	return localPrefixes{g.IpamV1alpha1Interface.Prefixes(namespace), g.server, namespace}
}

// PrefixAllocations implements ipamclient.IpamV1alpha1Interface.
func (g localGroup) PrefixAllocations(namespace string) ipamclient.PrefixAllocationInterface {
	return localAllocations{g.IpamV1alpha1Interface.PrefixAllocations(namespace), g.server, namespace}
}

type localPrefixes struct {
	ipamclient.PrefixInterface
	server    *apiserver.Server
	namespace string
}

// Watch implements ipamclient.PrefixInterface.
func (p localPrefixes) Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return p.server.Watch(ctx, "prefixes", p.namespace, options)
}

type localAllocations struct {
	ipamclient.PrefixAllocationInterface
	server    *apiserver.Server
	namespace string
}

// Watch implements ipamclient.PrefixAllocationInterface.
func (a localAllocations) Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return a.server.Watch(ctx, "prefixallocations", a.namespace, options)
}
