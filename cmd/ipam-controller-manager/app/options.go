// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"net"

	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
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
	}
}

// AddFlags adds the flags of the options to fs.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	o.ProcessOptions.AddFlags(fs)
	fs.StringVar(&o.APIServiceAddress, "apiservice-address", o.APIServiceAddress,
		"Address of the API server of ipam.ironcore.dev, host:port, to talk to it without the way through kube-apiserver. "+
			"It is trusted by what the APIService says. Through kube-apiserver if empty.")
	fs.StringVar(&o.APIServiceTokenFile, "apiservice-token-file", o.APIServiceTokenFile,
		"File with the token for --apiservice-address, which should be for one of its --api-audiences and for nobody else. "+
			"If empty, the API server gets the credentials of the kubeconfig.")
	fs.StringSliceVar(&o.Controllers, "controllers", o.Controllers, fmt.Sprintf("Controllers to run, of %q; * is all of them.", manager.Names()))
	fs.StringVar(&o.Strategy, "strategy", o.Strategy, "How to choose among parents: Pack fills them one by one, Spread takes the one with most room.")
	fs.IntVar(&o.Workers, "workers", o.Workers, "How many objects a controller works on at a time.")
	fs.Float32Var(&o.EventQPS, "event-qps", o.EventQPS, "How many events to record a second, of those of type Normal and of those of type Warning. One namespace can have a quarter of that. What is more is dropped.")
	fs.IntVar(&o.EventBurst, "event-burst", o.EventBurst, "How many events of a type to record at once, a quarter of them for one namespace.")
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
		return errors.New("--apiservice-token-file needs --apiservice-address: kube-apiserver does not accept such a token")
	}
	if o.EventQPS <= 0 || o.EventBurst < 1 {
		return fmt.Errorf("--event-qps and --event-burst must be positive, not %v and %d", o.EventQPS, o.EventBurst)
	}
	return o.config().Validate()
}

func (o *Options) config() manager.Config {
	return manager.Config{Controllers: o.Controllers, Strategy: o.Strategy, Workers: o.Workers}
}
