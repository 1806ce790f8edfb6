// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package direct configures clients that connect directly to the API server of an APIService. Their requests and watches
// do not pass through kube-apiserver, which would have to proxy them all.
package direct

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset/typed/apiregistration/v1"
)

// dialTimeout is the timeout for a new connection, including the TLS handshake.
const dialTimeout = 10 * time.Second

// Config returns a configuration for clients that connect to the API server of the named APIService at address, which
// is host:port. The clients authenticate with the credentials in config.
//
// The clients verify the server as kube-apiserver does: its certificate must be signed by the CA of the APIService and be
// valid for its Service. They read the APIService for each new connection, because the CA may change at any time.
// Existing connections stay open. They do not connect if the APIService sets insecureSkipTLSVerify: kube-apiserver
// authenticates with a certificate, but these clients would send their token to an unverified server.
//
// Config fails if address is not host:port, or the TLS configuration in config cannot be loaded.
func Config(config *rest.Config, services aggregator.APIServiceInterface, name, address string) (*rest.Config, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("address of the API server: %w", err)
	}
	login, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	if login == nil {
		login = &tls.Config{}
	}
	dialer := &dialer{services: services, name: name, login: login}

	config = rest.CopyConfig(config)
	config.Host, config.APIPath = "https://"+address, ""
	config.TLSClientConfig = rest.TLSClientConfig{}
	config.Transport = utilnet.SetTransportDefaults(&http.Transport{
		// A Service in the cluster is reached without a proxy.
		Proxy:             func(*http.Request) (*url.URL, error) { return nil, nil },
		DialTLSContext:    dialer.dial,
		ForceAttemptHTTP2: true,
	})
	return config, nil
}

// WithToken returns a copy of config that authenticates only with the token in the file. The file may be replaced at any
// time. If file is empty, WithToken returns config unchanged.
//
// The audience of the token should be one that only the IPAM API server accepts. A token that leaks from there is then
// useless at kube-apiserver.
func WithToken(config *rest.Config, file string) *rest.Config {
	if file == "" {
		return config
	}
	config = rest.AnonymousClientConfig(config)
	config.BearerTokenFile = file
	return config
}

// dialer opens TLS connections to the API server of an APIService.
type dialer struct {
	services aggregator.APIServiceInterface
	name     string
	// login holds the client certificate, if there is one.
	login *tls.Config
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	service, err := d.services.Get(ctx, d.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	config, err := trust(service)
	if err != nil {
		return nil, fmt.Errorf("APIService %s: %w", d.name, err)
	}
	config.Certificates, config.GetClientCertificate = d.login.Certificates, d.login.GetClientCertificate
	// HTTP/2 multiplexes concurrent requests. With HTTP/1.1 each would need its own connection.
	config.NextProtos = []string{"h2", "http/1.1"}
	return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: config}).DialContext(ctx, network, address)
}

// trust returns the TLS configuration that verifies the server of an APIService as kube-apiserver does. It fails if the
// APIService has no Service, sets insecureSkipTLSVerify, or has a CA bundle without certificates.
func trust(service *apiregistrationv1.APIService) (*tls.Config, error) {
	if service.Spec.Service == nil {
		return nil, errors.New("spec.service is not set: kube-apiserver itself serves the API")
	}
	if service.Spec.InsecureSkipTLSVerify {
		return nil, errors.New("spec.insecureSkipTLSVerify is set: the credentials are not sent to a server that is not verified")
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: service.Spec.Service.Name + "." + service.Spec.Service.Namespace + ".svc",
	}
	if len(service.Spec.CABundle) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(service.Spec.CABundle) {
			return nil, errors.New("no certificate in spec.caBundle")
		}
	}
	return config, nil
}
