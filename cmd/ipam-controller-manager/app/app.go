// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package app is the command line of ipam-controller-manager.
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

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/certificate"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/direct"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	// Metrics of the clients, the queues and the leader election.
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	_ "k8s.io/component-base/metrics/prometheus/workqueue"
)

const component = "ipam-controller-manager"

// NewCommand returns the command, which works until the context ends.
func NewCommand(ctx context.Context) *cobra.Command {
	options := NewOptions()
	cmd := &cobra.Command{
		Use:   component,
		Short: "Allocate prefixes of the API group ipam.ironcore.dev",
		Long: component + " makes a PrefixAllocation for each child Prefix, finds a parent and a free prefix for it, " +
			"completes the child, and keeps the status of the parents. If told to, it also keeps the serving certificate of " +
			"the API server. Of several managers one works, the leader.",
		Version:      version.Get(),
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			if err := options.Validate(); err != nil {
				return err
			}
			return run(ctx, options)
		},
	}
	options.AddFlags(cmd.Flags())
	return cmd
}

func run(ctx context.Context, options *Options) error {
	restConfig, err := clientcmd.BuildConfigFromFlags("", options.Kubeconfig)
	if err != nil {
		return err
	}
	restConfig.UserAgent = component + "/" + version.Get()
	restConfig = manager.ClientConfig(restConfig)

	config := options.config()
	if config.Aggregator, err = aggregator.NewForConfig(rest.AddUserAgent(restConfig, "certificate")); err != nil {
		return err
	}
	ipamConfig := restConfig
	if options.APIServiceAddress != "" {
		services := config.Aggregator.ApiregistrationV1().APIServices()
		if ipamConfig, err = direct.Config(restConfig, services, certificate.APIService, options.APIServiceAddress); err != nil {
			return err
		}
	}
	if config.Client, err = versioned.NewForConfig(ipamConfig); err != nil {
		return err
	}
	kubeClient, err := kubernetes.NewForConfig(rest.AddUserAgent(restConfig, "events"))
	if err != nil {
		return err
	}

	config.Kube = kubeClient

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	watchdog := leaderelection.NewLeaderHealthzAdaptor(20 * time.Second)
	if options.BindAddress != "0" {
		listener, err := net.Listen("tcp", options.BindAddress)
		if err != nil {
			return err
		}
		group.Go(func() error { return serveHealth(ctx, listener, watchdog, options.Profiling) })
	}
	group.Go(func() error {
		// Health is of no use without work.
		defer cancel()
		work := func(ctx context.Context) error {
			if servesEvents(ctx, kubeClient.Discovery()) {
				broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: kubeClient.EventsV1()})
				if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
					return err
				}
				defer broadcaster.Shutdown()
				config.Recorder = manager.LimitEvents(broadcaster.NewRecorder(scheme.Scheme, component), options.EventQPS, options.EventBurst)
			} else {
				klog.FromContext(ctx).Info("The server has no API for events, none are recorded")
			}
			return config.Run(ctx)
		}
		if !options.LeaderElection.LeaderElect {
			return work(ctx)
		}
		return lead(ctx, options, kubeClient, watchdog, work)
	})
	return group.Wait()
}

// servesEvents reports whether the server has the API for events, which only the server can deny.
func servesEvents(ctx context.Context, client discovery.ServerResourcesInterfaceWithContext) bool {
	_, err := client.ServerResourcesForGroupVersionWithContext(ctx, eventsv1.SchemeGroupVersion.String())
	return !apierrors.IsNotFound(err)
}

// errNotLeader ends the program: what it has assumed is of no worth once another one leads. It is
// started anew with nothing assumed.
var errNotLeader = errors.New("another manager leads now")

// lead works while this is the leader.
func lead(ctx context.Context, options *Options, client kubernetes.Interface, watchdog *leaderelection.HealthzAdaptor, work func(context.Context) error) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	l := options.LeaderElection
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
		Name:            component,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				started.Store(true)
				// Controllers that end by themselves end the lead.
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

// serveHealth serves health and metrics, and profiles if wanted, until the context ends.
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
