// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"sync/atomic"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	componentconfig "k8s.io/component-base/config"
	componentoptions "k8s.io/component-base/config/options"
	componentvalidation "k8s.io/component-base/config/validation"
	"k8s.io/component-base/metrics/legacyregistry"
)

// ProcessOptions are the options of every process that uses leader election.
type ProcessOptions struct {
	// Kubeconfig is the path of the kubeconfig. If it is empty, the in-cluster configuration is used.
	Kubeconfig string
	// BindAddress is where health and metrics are served, host:port. "0" disables them.
	BindAddress string
	// Profiling also serves profiles at BindAddress.
	Profiling bool
	// LeaderElection configures the leader election.
	LeaderElection componentconfig.LeaderElectionConfiguration
}

// newProcessOptions returns the default options. lease is the name of the Lease for the leader election.
func newProcessOptions(lease string) ProcessOptions {
	return ProcessOptions{
		BindAddress: "127.0.0.1:8080",
		LeaderElection: componentconfig.LeaderElectionConfiguration{
			LeaderElect:       true,
			LeaseDuration:     metav1.Duration{Duration: 10 * time.Second},
			RenewDeadline:     metav1.Duration{Duration: 7 * time.Second},
			RetryPeriod:       metav1.Duration{Duration: time.Second},
			ResourceLock:      resourcelock.LeasesResourceLock,
			ResourceName:      lease,
			ResourceNamespace: "ipam-system",
		},
	}
}

// AddFlags adds the flags of the options to fs.
func (o *ProcessOptions) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "Path of the kubeconfig file for the cluster. If empty, the service account of the pod is used.")
	fs.StringVar(&o.BindAddress, "bind-address", o.BindAddress, "Address (host:port) to serve /healthz, /livez, /readyz and /metrics on over HTTP. 0 disables this.")
	fs.BoolVar(&o.Profiling, "profiling", o.Profiling, "Also serve /debug/pprof on --bind-address, without authentication.")
	componentoptions.BindLeaderElectionFlags(&o.LeaderElection, fs)
}

// Validate returns an error if the options are not valid.
func (o *ProcessOptions) Validate() error {
	return componentvalidation.ValidateLeaderElectionConfiguration(&o.LeaderElection, field.NewPath("leaderElection")).ToAggregate()
}

// clientConfig returns the client configuration for the cluster. name is part of the user agent.
func (o *ProcessOptions) clientConfig(name string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = name + "/" + version.Get()
	return manager.ClientConfig(config), nil
}

// lead serves health and metrics, and calls work while this process is the leader. It returns when ctx ends, work
// returns, or leadership is lost.
func (o *ProcessOptions) lead(ctx context.Context, client kubernetes.Interface, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	watchdog := leaderelection.NewLeaderHealthzAdaptor(20 * time.Second)
	if o.BindAddress != "0" {
		listener, err := net.Listen("tcp", o.BindAddress)
		if err != nil {
			return err
		}
		group.Go(func() error { return serveHealth(ctx, listener, watchdog, o.Profiling) })
	}
	group.Go(func() error {
		// Stop serving health when the work ends.
		defer cancel()
		if !o.LeaderElection.LeaderElect {
			return work(ctx)
		}
		return o.workAsLeader(ctx, client, watchdog, work)
	})
	return group.Wait()
}

// errNotLeader ends the process when it loses leadership. Its in-memory state is worthless once another process leads.
// It must be restarted, so that it begins with a clean state.
var errNotLeader = errors.New("leadership lost")

// workAsLeader waits for leadership and calls work while this process is the leader. It returns errNotLeader if
// leadership is lost.
func (o *ProcessOptions) workAsLeader(ctx context.Context, client kubernetes.Interface, watchdog *leaderelection.HealthzAdaptor, work func(context.Context) error) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	l := o.LeaderElection
	lock, err := resourcelock.New(l.ResourceLock, l.ResourceNamespace, l.ResourceName, client.CoreV1(), client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: fmt.Sprintf("%s_%s", hostname, uuid.NewUUID())})
	if err != nil {
		return err
	}
	leading, stop := context.WithCancel(ctx)
	defer stop()
	var started atomic.Bool
	worked := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   l.LeaseDuration.Duration,
		RenewDeadline:   l.RenewDeadline.Duration,
		RetryPeriod:     l.RetryPeriod.Duration,
		WatchDog:        watchdog,
		Name:            l.ResourceName,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				started.Store(true)
				// If work returns by itself, release leadership.
				defer stop()
				worked <- work(ctx)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(leading)
	if started.Load() {
		if err := <-worked; err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		return errNotLeader
	}
	return nil
}

// serveHealth serves health, metrics and, if profiling is set, profiles until ctx ends.
func serveHealth(ctx context.Context, listener net.Listener, watchdog *leaderelection.HealthzAdaptor, profiling bool) error {
	mux := http.NewServeMux()
	healthz.InstallHandler(mux, healthz.PingHealthz, watchdog)
	healthz.InstallLivezHandler(mux, healthz.PingHealthz, watchdog)
	healthz.InstallReadyzHandler(mux, healthz.PingHealthz)
	mux.Handle("/metrics", legacyregistry.Handler())
	if profiling {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}

	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
