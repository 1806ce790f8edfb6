// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net"

	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/pools"
	"github.com/spf13/pflag"
)

// Options are the options of the controller manager.
type Options struct {
	ProcessOptions
	// APIServiceAddress is the address of the API server of ipam.ironcore.dev, host:port. If it is empty, the
	// controllers connect through kube-apiserver.
	APIServiceAddress string
	// APIServiceTokenFile is the file with the token for APIServiceAddress, which has its own audience. If it is empty,
	// the controllers use the credentials of the kubeconfig.
	APIServiceTokenFile string
	// Controllers are the names of the controllers to run. "*" stands for all of them.
	Controllers []string
	// Strategy is how the scheduler chooses among parents: Pack or Spread.
	Strategy string
	// Workers is the number of objects that each controller processes in parallel.
	Workers int
	// EventQPS is the maximum rate of recorded events, in events per second, and EventBurst is the maximum burst. Both
	// apply separately to the event types Normal and Warning.
	EventQPS   float32
	EventBurst int
	// PoolMetricsLimit is the maximum number of pools that have metrics of their own.
	PoolMetricsLimit int
	// TracingConfigFile is the path of a TracingConfiguration of apiserver.config.k8s.io. If it is empty, there are no spans.
	TracingConfigFile string
}

// NewOptions returns the default options.
func NewOptions() *Options {
	return &Options{
		ProcessOptions: newProcessOptions(component),
		Controllers:    []string{"*"},
		Strategy:       "Pack",
		Workers:        64,
		EventQPS:       20,
		EventBurst:     100,

		PoolMetricsLimit: pools.DefaultLimit,
	}
}

// AddFlags adds the flags of the options to fs.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	o.ProcessOptions.AddFlags(fs)
	fs.StringVar(&o.APIServiceAddress, "apiservice-address", o.APIServiceAddress,
		"Address (host:port) of the API server of ipam.ironcore.dev. The controllers connect to it directly, and verify its "+
			"certificate by the APIService. If empty, they connect through kube-apiserver.")
	fs.StringVar(&o.APIServiceTokenFile, "apiservice-token-file", o.APIServiceTokenFile,
		"File with the token for --apiservice-address. Its only audience should be one of the --api-audiences of that server. "+
			"If empty, the credentials of the kubeconfig are used.")
	fs.StringSliceVar(&o.Controllers, "controllers", o.Controllers, fmt.Sprintf("Controllers to run: any of %q, or * for all.", manager.Names()))
	fs.StringVar(&o.Strategy, "strategy", o.Strategy, "Strategy to choose a parent: Pack prefers the one with the smallest free block that fits, Spread the one with the most free addresses.")
	fs.IntVar(&o.Workers, "workers", o.Workers, "Number of objects that each controller processes concurrently.")
	fs.Float32Var(&o.EventQPS, "event-qps", o.EventQPS, "Maximum number of events per second, for each of the types Normal and Warning. Each namespace can use a quarter of it. Excess events are dropped.")
	fs.IntVar(&o.PoolMetricsLimit, "pool-metrics-limit", o.PoolMetricsLimit, "Maximum number of pools that have metrics of their own. Each namespace gets an equal share.")
	fs.StringVar(&o.TracingConfigFile, "tracing-config-file", o.TracingConfigFile, "File with a TracingConfiguration of apiserver.config.k8s.io, which says where spans are sent, and how many. If empty, none are.")
	fs.IntVar(&o.EventBurst, "event-burst", o.EventBurst, "Maximum burst of events of each type. Each namespace can use a quarter of it.")
}

// Validate returns an error if the options are not valid.
func (o *Options) Validate() error {
	if err := o.ProcessOptions.Validate(); err != nil {
		return err
	}
	if o.APIServiceAddress != "" {
		if _, _, err := net.SplitHostPort(o.APIServiceAddress); err != nil {
			return fmt.Errorf("--apiservice-address: %w", err)
		}
	} else if o.APIServiceTokenFile != "" {
		return errors.New("--apiservice-token-file requires --apiservice-address: kube-apiserver does not accept such a token")
	}
	if o.EventQPS <= 0 || o.EventBurst < 1 {
		return fmt.Errorf("--event-qps and --event-burst must be positive, not %v and %d", o.EventQPS, o.EventBurst)
	}
	if o.PoolMetricsLimit < 1 {
		return fmt.Errorf("--pool-metrics-limit must be positive, not %d", o.PoolMetricsLimit)
	}
	return o.config().Validate()
}

func (o *Options) config() manager.Config {
	return manager.Config{Controllers: o.Controllers, Strategy: o.Strategy, Workers: o.Workers, PoolMetricsLimit: o.PoolMetricsLimit}
}
