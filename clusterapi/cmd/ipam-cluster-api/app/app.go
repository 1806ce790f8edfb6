// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package app implements the command line of ipam-cluster-api.
package app

import (
	"context"
	"fmt"

	"github.com/ironcore-dev/ipam-apiserver/clusterapi/internal/provider"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	capiflags "sigs.k8s.io/cluster-api/util/flags"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

const component = "ipam-cluster-api"

// Options are the options of the provider.
type Options struct {
	provider.Options
	// Kubeconfig is the path of the kubeconfig. If it is empty, the in-cluster configuration is used.
	Kubeconfig string
	// Namespace is the only namespace whose claims are served. If it is empty, those of all namespaces are.
	Namespace string
	// HealthAddress is the address of /healthz and /readyz. 0 disables them.
	HealthAddress string
	// LeaderElect makes only one of several processes active.
	LeaderElect bool
	// LeaderElectionNamespace is the namespace of the Lease. If it is empty, it is that of the pod.
	LeaderElectionNamespace string
	// Manager has the options of diagnostics that all providers of Cluster API have.
	Manager capiflags.ManagerOptions
}

// NewOptions returns the default options.
func NewOptions() *Options {
	return &Options{Options: provider.Options{Concurrency: 32}, HealthAddress: ":9440"}
}

// AddFlags adds the flags of the options to fs.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "Path of a kubeconfig. If empty, the in-cluster configuration is used.")
	fs.StringVar(&o.Namespace, "namespace", o.Namespace, "The only namespace whose claims are served. If empty, those of all namespaces are served.")
	fs.StringVar(&o.WatchFilter, "watch-filter", o.WatchFilter, "Value of the label cluster.x-k8s.io/watch-filter that claims and PrefixPools must have. If empty, they need no such label.")
	fs.IntVar(&o.Concurrency, "concurrency", o.Concurrency, "Number of claims that are processed concurrently.")
	fs.StringVar(&o.HealthAddress, "health-addr", o.HealthAddress, "Address of /healthz and /readyz. 0 disables them.")
	fs.BoolVar(&o.LeaderElect, "leader-elect", o.LeaderElect, "Elect a leader among several processes, so that only one is active.")
	fs.StringVar(&o.LeaderElectionNamespace, "leader-elect-resource-namespace", o.LeaderElectionNamespace, "Namespace of the Lease for the leader election. If empty, it is that of the pod.")
	capiflags.AddManagerOptions(fs, &o.Manager)
}

// Validate returns an error if the options are not valid.
func (o *Options) Validate() error {
	if o.Concurrency < 1 {
		return fmt.Errorf("--concurrency must be positive, not %d", o.Concurrency)
	}
	return nil
}

// NewCommand returns the command. It runs the provider until ctx ends.
func NewCommand(ctx context.Context) *cobra.Command {
	options := NewOptions()
	cmd := &cobra.Command{
		Use:   component,
		Short: "Give machines of Cluster API their addresses from Prefixes",
		Long: component + " is an IPAM provider of Cluster API. It serves IPAddressClaims whose pool is a PrefixPool of " +
			"capi.ipam.ironcore.dev or a Prefix of ipam.ironcore.dev.",
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

func run(ctx context.Context, o *Options) error {
	ctrl.SetLogger(klog.Background())
	_, metricsOptions, err := capiflags.GetManagerOptions(o.Manager)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return err
	}
	config.UserAgent = component
	// The servers limit the rate with API Priority and Fairness.
	config.QPS = -1
	scheme, err := provider.NewScheme()
	if err != nil {
		return err
	}
	cacheOptions := provider.CacheOptions()
	if o.Namespace != "" {
		cacheOptions.DefaultNamespaces = map[string]cache.Config{o.Namespace: {}}
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Cache:                         cacheOptions,
		Metrics:                       *metricsOptions,
		HealthProbeBindAddress:        o.HealthAddress,
		LeaderElection:                o.LeaderElect,
		LeaderElectionID:              component,
		LeaderElectionNamespace:       o.LeaderElectionNamespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := mgr.AddReadyzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := provider.Add(ctx, mgr, o.Options); err != nil {
		return err
	}
	return mgr.Start(ctx)
}
