// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"net"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/certificate"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	componentconfig "k8s.io/component-base/config"
	componentoptions "k8s.io/component-base/config/options"
	componentvalidation "k8s.io/component-base/config/validation"
)

// Options are the options of the program.
type Options struct {
	// Kubeconfig is the path of the kubeconfig; empty means that of the pod it runs in.
	Kubeconfig string
	// APIServiceAddress is where the API server of the APIService of ipam.ironcore.dev is, host:port; empty means
	// to talk to it through that of the kubeconfig.
	APIServiceAddress string
	// Controllers are the names of those that run; "*" is all but those that are disabled by default.
	Controllers []string
	// Strategy is by what the scheduler chooses among parents, Pack or Spread.
	Strategy string
	// Workers is how many objects a controller works on at a time.
	Workers int
	// EventQPS is how many events of a type, Normal or Warning, are recorded a second, and EventBurst how many
	// at once.
	EventQPS   float32
	EventBurst int
	// BindAddress is where health and metrics are served, host:port; "0" is nowhere.
	BindAddress string
	// Profiling has profiles served there too.
	Profiling bool
	// Certificate is for the controller of that name.
	Certificate certificate.Config
	// LeaderElection is how one of several managers is chosen to work.
	LeaderElection componentconfig.LeaderElectionConfiguration
}

// NewOptions returns the defaults.
func NewOptions() *Options {
	return &Options{
		Controllers: []string{"*"},
		Strategy:    "Pack",
		Workers:     64,
		EventQPS:    20,
		EventBurst:  100,
		BindAddress: "127.0.0.1:8080",
		Certificate: certificate.NewConfig(),
		LeaderElection: componentconfig.LeaderElectionConfiguration{
			LeaderElect:       true,
			LeaseDuration:     metav1.Duration{Duration: 10 * time.Second},
			RenewDeadline:     metav1.Duration{Duration: 7 * time.Second},
			RetryPeriod:       metav1.Duration{Duration: time.Second},
			ResourceLock:      resourcelock.LeasesResourceLock,
			ResourceName:      "ipam-controller-manager",
			ResourceNamespace: "ipam-system",
		},
	}
}

// AddFlags adds the flags of the options.
func (o *Options) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", o.Kubeconfig, "kubeconfig of a server that serves ipam.ironcore.dev; that of the pod if empty.")
	fs.StringVar(&o.APIServiceAddress, "apiservice-address", o.APIServiceAddress,
		"Address of the API server of ipam.ironcore.dev, host:port, to talk to it without the way through kube-apiserver. "+
			"It is trusted by what the APIService says. Through kube-apiserver if empty.")
	fs.StringSliceVar(&o.Controllers, "controllers", o.Controllers, fmt.Sprintf("Controllers to run; * is %q. Those that have to be named: %q.",
		manager.Names(), manager.DisabledNames()))
	fs.StringVar(&o.Strategy, "strategy", o.Strategy, "How to choose among parents: Pack fills them one by one, Spread takes the one with most room.")
	fs.IntVar(&o.Workers, "workers", o.Workers, "How many objects a controller works on at a time.")
	fs.Float32Var(&o.EventQPS, "event-qps", o.EventQPS, "How many events to record a second, of those of type Normal and of those of type Warning. What is more is dropped.")
	fs.IntVar(&o.EventBurst, "event-burst", o.EventBurst, "How many events of a type to record at once.")
	fs.StringVar(&o.BindAddress, "bind-address", o.BindAddress, "Address to serve /healthz, /livez, /readyz and /metrics on, by HTTP; 0 is nowhere.")
	fs.BoolVar(&o.Profiling, "profiling", o.Profiling, "Serve profiles under /debug/pprof there too, to everybody who can reach it.")
	c := &o.Certificate
	fs.StringVar(&c.Namespace, "certificate-namespace", c.Namespace, "Namespace of the Secrets of the controller certificate, and of the Service of the API server.")
	fs.StringVar(&c.Secret, "certificate-secret", c.Secret, "Secret to keep the serving certificate of the API server in.")
	fs.StringVar(&c.CASecret, "certificate-ca-secret", c.CASecret, "Secret to keep the authority in that signs it.")
	fs.StringVar(&c.Service, "certificate-service", c.Service, "Service of the API server, whose names the certificate is for.")
	fs.StringVar(&c.EtcdService, "certificate-etcd-service", c.EtcdService, "Service of the members of etcd, if their certificates are to be kept too, in the Secrets NAME-ca, NAME-tls and NAME-client-tls.")
	fs.DurationVar(&c.Lifetime, "certificate-lifetime", c.Lifetime, "How long a certificate is valid. It is renewed when a third of this is left.")
	fs.DurationVar(&c.CALifetime, "certificate-ca-lifetime", c.CALifetime, "How long an authority is valid. It is replaced when a third of this is left.")
	componentoptions.BindLeaderElectionFlags(&o.LeaderElection, fs)
}

// Validate tells every mistake in the options.
func (o *Options) Validate() error {
	if errs := componentvalidation.ValidateLeaderElectionConfiguration(&o.LeaderElection, field.NewPath("leaderElection")); len(errs) > 0 {
		return errs.ToAggregate()
	}
	if o.APIServiceAddress != "" {
		if _, _, err := net.SplitHostPort(o.APIServiceAddress); err != nil {
			return fmt.Errorf("--apiservice-address: %w", err)
		}
	}
	if o.EventQPS <= 0 || o.EventBurst < 1 {
		return fmt.Errorf("--event-qps and --event-burst must be positive, not %v and %d", o.EventQPS, o.EventBurst)
	}
	if err := o.Certificate.Validate(); err != nil {
		return err
	}
	return o.config().Validate()
}

func (o *Options) config() manager.Config {
	return manager.Config{
		Controllers: o.Controllers, Strategy: o.Strategy, Workers: o.Workers, Certificate: o.Certificate,
	}
}
