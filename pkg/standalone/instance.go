// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// Options configure an instance.
type Options struct {
	// DataDir has the database, the certificates and the kubeconfig.
	DataDir string
	// Port is the port of 127.0.0.1 to serve on; 0 is any that is free.
	Port int
	// Controllers are the names of those that run; "*" is all of them.
	Controllers []string
	// Strategy is how the scheduler chooses among parents, Pack or Spread.
	Strategy string
	// Workers is how many objects a controller works on at a time.
	Workers int
	// QuotaBytes is how large the database may get.
	QuotaBytes int64
	// AdmissionConfigFile, if set, is the path of an AdmissionConfiguration.
	AdmissionConfigFile string
	// Customize, if set, has the last word on the options of the API server.
	Customize func(*apiserver.Options)
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		DataDir:     ".ipam",
		Port:        7443,
		Controllers: []string{"*"},
		Strategy:    "Pack",
		Workers:     64,
		QuotaBytes:  DefaultEtcdQuota,
	}
}

// Instance is API server, controllers and etcd, running.
type Instance struct {
	// URL is the address of the API server.
	URL string
	// Kubeconfig is the path of a kubeconfig for it.
	Kubeconfig string
	// Config is for a client of it with all rights. It does not limit its rate.
	Config *rest.Config
	// Client is the client that the controllers have. It ends with them.
	Client versioned.Interface
	// EtcdEndpoints are the endpoints of etcd.
	EtcdEndpoints []string

	cancel  context.CancelFunc
	done    chan struct{}
	err     error
	cleanup []func()
}

// startPatience is how long a start takes without a word. One that has a million children to read takes longer.
const startPatience = 15 * time.Second

// Start starts an instance, which runs until the context ends or it is closed, and returns when it
// is ready. It fails if another one uses the data directory or the port.
func Start(ctx context.Context, options *Options) (instance *Instance, err error) {
	i := &Instance{done: make(chan struct{})}
	ctx, i.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			i.cancel()
			i.clean()
		}
	}()

	controllers := manager.Config{Controllers: options.Controllers, Strategy: options.Strategy, Workers: options.Workers}
	if err := controllers.Validate(); err != nil {
		return nil, err
	}
	if options.QuotaBytes <= 0 {
		return nil, fmt.Errorf("the quota of the database must be positive, it is %d", options.QuotaBytes)
	}
	dataDir, err := OpenDataDir(options.DataDir)
	if err != nil {
		return nil, err
	}
	i.cleanup = append(i.cleanup, func() { _ = dataDir.Close() })
	slow := time.AfterFunc(startPatience, func() { klog.Warningf("Still starting: reading what is in %s", dataDir.Path()) })
	defer slow.Stop()

	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", options.Port))
	if err != nil {
		return nil, err
	}
	// The server closes it; once more does no harm.
	i.cleanup = append(i.cleanup, func() { _ = listener.Close() })
	i.URL = "https://" + listener.Addr().String()

	pki, err := EnsurePKI(dataDir.PKIDir(), time.Now())
	if err != nil {
		return nil, err
	}
	i.Kubeconfig = dataDir.KubeconfigPath()
	if err := WriteKubeconfig(i.Kubeconfig, i.URL, pki); err != nil {
		return nil, err
	}

	etcd, err := StartEtcd(ctx, dataDir.Path(), "", QuotaBytes(options.QuotaBytes))
	if err != nil {
		return nil, err
	}
	i.cleanup = append(i.cleanup, etcd.Close)
	i.EtcdEndpoints = etcd.Endpoints()

	server, err := newServer(options, pki, listener, etcd)
	if err != nil {
		return nil, err
	}
	i.Config = rest.CopyConfig(server.GenericAPIServer.LoopbackClientConfig)
	i.Config.QPS = -1

	// The server outlives the controllers, which are its clients, and etcd outlives the server.
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- server.Run(serving) }()
	i.cleanup = append(i.cleanup, func() {
		stopServing()
		<-served
	})
	own, disconnect := disconnectable(i.Config)
	i.cleanup = append(i.cleanup, disconnect)
	if err := waitReady(ctx, own, served, etcd.Err()); err != nil {
		i.cancel()
		return nil, err
	}

	if i.Client, err = versioned.NewForConfig(manager.ClientConfig(own)); err != nil {
		i.cancel()
		return nil, err
	}
	controllers.Client = i.Client
	controlled := make(chan error, 1)
	go func() { controlled <- controllers.Run(ctx) }()

	go func() {
		defer close(i.done)
		select {
		case i.err = <-controlled:
			controlled <- i.err
		case i.err = <-served:
			served <- i.err
		case i.err = <-etcd.Err():
		case <-ctx.Done():
		}
		i.cancel()
		i.err = errors.Join(i.err, <-controlled)
		i.clean()
	}()
	return i, nil
}

func newServer(options *Options, pki *PKI, listener net.Listener, etcd *Etcd) (*apiserver.Server, error) {
	o := apiserver.NewOptions()
	o.WithoutCluster = true
	serving := o.Recommended.SecureServing
	serving.Listener = listener
	serving.BindAddress = net.IPv4(127, 0, 0, 1)
	serving.BindPort = listener.Addr().(*net.TCPAddr).Port
	serving.ServerCert.CertKey.CertFile = pki.ServingCertFile
	serving.ServerCert.CertKey.KeyFile = pki.ServingKeyFile
	o.Recommended.Authentication.ClientCert.ClientCA = pki.CACertFile
	o.Recommended.Etcd.StorageConfig.Transport.ServerList = etcd.Endpoints()
	o.Recommended.Admission.ConfigFile = options.AdmissionConfigFile
	if options.Customize != nil {
		options.Customize(o)
	}
	if err := o.Complete(); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	config, err := o.Config()
	if err != nil {
		return nil, err
	}
	return config.Complete().New()
}

// disconnectable returns a copy of a configuration whose clients lose their connections when the function is called,
// and cannot connect again. A client finishes a connection whose request was canceled. When the server stops meanwhile,
// nothing tells that HTTP/2 connection to end, and the server would wait for it for a minute.
func disconnectable(config *rest.Config) (*rest.Config, func()) {
	ended, disconnect := context.WithCancel(context.Background())
	dialer := &net.Dialer{}
	config = rest.CopyConfig(config)
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ended, func() { _ = conn.Close() })
		return conn, nil
	}
	return config, disconnect
}

// waitReady waits until the server says that it is ready, however long that takes, or until it or etcd has ended.
func waitReady(ctx context.Context, config *rest.Config, served chan error, etcd <-chan error) error {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return wait.PollUntilContextCancel(ctx, 10*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		select {
		case err := <-served:
			served <- err
			return false, fmt.Errorf("the API server ended: %w", err)
		case err := <-etcd:
			return false, err
		default:
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/readyz", nil)
		if err != nil {
			return false, err
		}
		response, err := client.Do(request)
		if err != nil {
			return false, nil
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK, nil
	})
}

// Wait returns when the instance has ended, and tells why if it did not end by being closed.
func (i *Instance) Wait() error {
	<-i.done
	return i.err
}

// Close ends the instance and returns when everything is on disk.
func (i *Instance) Close() {
	i.cancel()
	<-i.done
}

// clean undoes, last first, what was started.
func (i *Instance) clean() {
	for n := len(i.cleanup) - 1; n >= 0; n-- {
		i.cleanup[n]()
	}
}
