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
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/datadir"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/etcd"
	"github.com/ironcore-dev/ipam-apiserver/pkg/standalone/pki"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// Options configures an instance.
type Options struct {
	// DataDir is the path of the directory for the database, the certificates and the kubeconfig.
	DataDir string
	// Port is the port to serve on, on 127.0.0.1. 0 means any free port.
	Port int
	// Controllers holds the names of the controllers to run. "*" means all.
	Controllers []string
	// Strategy is how the scheduler chooses a parent: Pack or Spread.
	Strategy string
	// Workers is the number of objects that a controller processes concurrently.
	Workers int
	// QuotaBytes is the maximum size of the database, in bytes.
	QuotaBytes int64
	// AdmissionConfigFile is the path of an AdmissionConfiguration file. Optional.
	AdmissionConfigFile string
	// Customize changes the options of the API server after everything else has set them. Optional.
	Customize func(*apiserver.Options)
}

// NewOptions returns the default options.
func NewOptions() *Options {
	return &Options{
		DataDir:     ".ipam",
		Port:        7443,
		Controllers: []string{"*"},
		Strategy:    "Pack",
		Workers:     64,
		QuotaBytes:  etcd.DefaultQuota,
	}
}

// Instance is a running API server with its controllers and etcd.
type Instance struct {
	// URL is the address of the API server.
	URL string
	// Kubeconfig is the path of the administrator's kubeconfig for the API server.
	Kubeconfig string
	// Config is a client configuration for the API server with all rights and no rate limit.
	Config *rest.Config
	// Client is the client of the controllers. It stops working when they stop.
	Client versioned.Interface
	// EtcdEndpoints holds the endpoints of etcd for a client.
	EtcdEndpoints []string

	cancel  context.CancelFunc
	done    chan struct{}
	err     error
	cleanup []func()
}

// slowStart is the time after which a start that is still in progress is reported. With a million children to
// read, a start takes longer than this.
const slowStart = 15 * time.Second

// Start starts an instance and returns when it is ready. The instance runs until ctx ends or Close is called.
// Start returns an error if another instance uses the data directory, or if the port is in use.
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
		return nil, fmt.Errorf("the quota of the database must be positive, not %d", options.QuotaBytes)
	}
	slow := time.AfterFunc(slowStart, func() { klog.Warningf("Still starting: loading the data in %s", options.DataDir) })
	defer slow.Stop()

	// They stop in the order opposite to that in which they start: the controllers, which are clients of the server, then the
	// server, then etcd.
	server, database, err := i.open(ctx, options)
	if err != nil {
		return nil, err
	}
	own, served, err := i.serve(ctx, server, database)
	if err != nil {
		return nil, err
	}
	if i.Client, err = versioned.NewForConfig(manager.ClientConfig(own)); err != nil {
		return nil, err
	}
	controllers.Client = i.Client
	controlled := make(chan error, 1)
	go func() { controlled <- controllers.Run(ctx) }()
	go i.run(ctx, controlled, served, database.Err())
	return i, nil
}

// open opens the data directory and the port, starts etcd, and returns the API server, which does not run yet.
func (i *Instance) open(ctx context.Context, options *Options) (*apiserver.Server, *etcd.Server, error) {
	dataDir, err := datadir.Open(options.DataDir)
	if err != nil {
		return nil, nil, err
	}
	i.cleanup = append(i.cleanup, func() { _ = dataDir.Close() })

	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", options.Port))
	if err != nil {
		return nil, nil, err
	}
	// The server closes the listener too. Closing it twice is harmless.
	i.cleanup = append(i.cleanup, func() { _ = listener.Close() })
	i.URL = "https://" + listener.Addr().String()

	certificates, err := pki.Ensure(dataDir.PKIDir(), time.Now())
	if err != nil {
		return nil, nil, err
	}
	i.Kubeconfig = dataDir.KubeconfigPath()
	if err := pki.WriteKubeconfig(i.Kubeconfig, i.URL, certificates); err != nil {
		return nil, nil, err
	}

	database, err := etcd.Start(ctx, dataDir.Path(), "", etcd.QuotaBytes(options.QuotaBytes))
	if err != nil {
		return nil, nil, err
	}
	i.cleanup = append(i.cleanup, database.Close)
	i.EtcdEndpoints = database.Endpoints()

	server, err := newServer(options, certificates, listener, database)
	return server, database, err
}

// serve runs the API server and waits until it is ready. It returns the client configuration of the controllers, and a channel
// that gets the error with which the server ends.
func (i *Instance) serve(ctx context.Context, server *apiserver.Server, database *etcd.Server) (own *rest.Config, served chan error, err error) {
	i.Config = rest.CopyConfig(server.GenericAPIServer.LoopbackClientConfig)
	i.Config.QPS = -1
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	served = make(chan error, 1)
	go func() { served <- server.Run(serving) }()
	i.cleanup = append(i.cleanup, func() {
		stopServing()
		<-served
	})
	own, disconnect := disconnectable(i.Config)
	i.cleanup = append(i.cleanup, disconnect)
	return own, served, waitReady(ctx, own, served, database.Err())
}

// run waits until a part ends or ctx ends, and stops the other parts.
func (i *Instance) run(ctx context.Context, controlled, served chan error, database <-chan error) {
	defer close(i.done)
	select {
	case i.err = <-controlled:
		controlled <- i.err
	case i.err = <-served:
		served <- i.err
	case i.err = <-database:
	case <-ctx.Done():
	}
	i.cancel()
	i.err = errors.Join(i.err, <-controlled)
	i.clean()
}

func newServer(options *Options, certificates *pki.Certificates, listener net.Listener, database *etcd.Server) (*apiserver.Server, error) {
	o := apiserver.NewOptions()
	o.WithoutCluster = true
	serving := o.Recommended.SecureServing
	serving.Listener = listener
	serving.BindAddress = net.IPv4(127, 0, 0, 1)
	serving.BindPort = listener.Addr().(*net.TCPAddr).Port
	serving.ServerCert.CertKey.CertFile = certificates.ServingCertFile
	serving.ServerCert.CertKey.KeyFile = certificates.ServingKeyFile
	o.Recommended.Authentication.ClientCert.ClientCA = certificates.CACertFile
	o.Recommended.Etcd.StorageConfig.Transport.ServerList = database.Endpoints()
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

// disconnectable returns a copy of config and a function. The function closes the connections of all clients that
// use the copy, and prevents new ones. Without it the server can wait for a minute when it stops: a client
// completes a connection even if its request was canceled, and an HTTP/2 connection that is opened during the
// shutdown is not told to end.
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

// waitReady waits until the server is ready, without a timeout. It returns an error if the server or etcd stops
// before that.
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
			return false, fmt.Errorf("the API server stopped: %w", err)
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

// Wait waits until the instance has stopped. It returns an error if the instance was not stopped by Close or the
// context.
func (i *Instance) Wait() error {
	<-i.done
	return i.err
}

// Close stops the instance. It returns when all data is on disk.
func (i *Instance) Close() {
	i.cancel()
	<-i.done
}

// clean runs the cleanup functions in reverse order.
func (i *Instance) clean() {
	for n := len(i.cleanup) - 1; n >= 0; n-- {
		i.cleanup[n]()
	}
}
