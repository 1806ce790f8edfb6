// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package direct has clients talk to the API server that an APIService stands for without the way through
// kube-apiserver, which would have to pass on all their requests and watches.
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

// dialTimeout is for a connection until it is encrypted.
const dialTimeout = 10 * time.Second

// Config returns the configuration of clients that talk to the API server of the APIService of that name at
// an address, host:port, and log in there as they would do at the cluster of a configuration.
//
// They trust the server as kube-apiserver does: its certificate must be signed by the CA of the APIService
// and be for its Service. The APIService is read for each connection, since the CA may be replaced at any
// time; connections that there are stay. A server that kube-apiserver is told not to verify gets no connection:
// kube-apiserver proves who it is by a certificate, but these clients would hand out their token.
//
// Config fails if the address or what to log in with is not usable.
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
		// The Service of a cluster is not behind a proxy.
		Proxy:             func(*http.Request) (*url.URL, error) { return nil, nil },
		DialTLSContext:    dialer.dial,
		ForceAttemptHTTP2: true,
	})
	return config, nil
}

// WithToken returns a copy of a configuration that logs in with the token in a file and with nothing else. The file may be
// replaced at any time. Without a file, it returns the configuration as it is.
//
// The token should be for an audience that only the API server accepts. Whoever gets hold of one that was sent to the API
// server can then do nothing with it at kube-apiserver.
func WithToken(config *rest.Config, file string) *rest.Config {
	if file == "" {
		return config
	}
	config = rest.AnonymousClientConfig(config)
	config.BearerTokenFile = file
	return config
}

// dialer connects to the server of an APIService.
type dialer struct {
	services aggregator.APIServiceInterface
	name     string
	// login has the client certificate, if there is one.
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
	// Without HTTP/2 each of the requests at a time would need a connection.
	config.NextProtos = []string{"h2", "http/1.1"}
	return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: config}).DialContext(ctx, network, address)
}

// trust returns by what kube-apiserver trusts the server of an APIService.
func trust(service *apiregistrationv1.APIService) (*tls.Config, error) {
	if service.Spec.Service == nil {
		return nil, errors.New("kube-apiserver itself serves it")
	}
	if service.Spec.InsecureSkipTLSVerify {
		return nil, errors.New("spec.insecureSkipTLSVerify is set: who is not verified gets no token")
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
