// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package manager runs the controllers.
package manager

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/pools"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/prefix"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/prefixpolicy"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/scheduler"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	kubeinformers "k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
)

// Config is the configuration of the controllers.
type Config struct {
	// Client is the client for the API server. It should have no rate limit, because the server limits the rate.
	Client versioned.Interface
	// Namespaces is a client for the namespaces of the cluster. It may be nil if there are none: then policies cannot
	// select namespaces by their labels.
	Namespaces kubernetes.Interface
	// Recorder records events. It may be nil if there is no API for events.
	Recorder events.EventRecorder
	// Controllers holds the names of the controllers to run. "*" means all.
	Controllers []string
	// Strategy is how the scheduler chooses a parent: Pack or Spread.
	Strategy string
	// Workers is the number of objects that a controller processes concurrently.
	Workers int
	// PoolMetricsLimit is the maximum number of pools that have metrics of their own. The process of the controller
	// "prefix" serves them. 0 means pools.DefaultLimit.
	PoolMetricsLimit int
}

// controller is the interface of all controllers. Run returns when the context ends.
type controller interface {
	Run(ctx context.Context) error
}

// controllers lists all controllers.
var controllers = []struct {
	name string
	init func(Config, factories) (controller, error)
}{
	{"prefix", func(c Config, f factories) (controller, error) {
		v1alpha1 := f.Ipam().V1alpha1()
		return prefix.New(c.Client, v1alpha1.Prefixes(), v1alpha1.PrefixAllocations(), v1alpha1.PrefixPolicies(), c.Recorder, c.Workers)
	}},
	{"scheduler", func(c Config, f factories) (controller, error) {
		strategy, err := scheduler.ParseStrategy(c.Strategy)
		if err != nil {
			return nil, err
		}
		v1alpha1 := f.Ipam().V1alpha1()
		var namespaces coreinformers.NamespaceInformer
		if f.core != nil {
			namespaces = f.core.Core().V1().Namespaces()
		}
		return scheduler.New(c.Client, v1alpha1.Prefixes(), v1alpha1.PrefixAllocations(), v1alpha1.PrefixPolicies(), namespaces, c.Recorder, strategy, c.Workers)
	}},
	{"prefixpolicy", func(c Config, f factories) (controller, error) {
		v1alpha1 := f.Ipam().V1alpha1()
		return prefixpolicy.New(c.Client, v1alpha1.PrefixPolicies(), v1alpha1.Prefixes(), v1alpha1.PrefixAllocations())
	}},
}

// ClientConfig returns a copy of config with settings for controllers: no rate limit, no compression, Protobuf.
func ClientConfig(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	// The server limits the rate with API Priority and Fairness.
	config.QPS = -1
	// The server is near, so CPU time costs more than bandwidth.
	config.DisableCompression = true
	// Protobuf needs less than half the CPU time of JSON, in client and server.
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return config
}

// Names returns the names of all controllers.
func Names() []string {
	var names []string
	for _, c := range controllers {
		names = append(names, c.name)
	}
	return names
}

// factories are the informers that the controllers share. core is nil if there are no namespaces.
type factories struct {
	externalversions.SharedInformerFactory
	core kubeinformers.SharedInformerFactory
}

// runs reports whether the controller is enabled.
func (c Config) runs(name string) bool {
	return slices.Contains(c.Controllers, name) || slices.Contains(c.Controllers, "*")
}

// Validate returns an error if the configuration is not valid.
func (c Config) Validate() error {
	all := Names()
	for _, name := range c.Controllers {
		if name != "*" && !slices.Contains(all, name) {
			return fmt.Errorf("unknown controller %q, must be one of %q or *", name, all)
		}
	}
	if c.PoolMetricsLimit < 0 {
		return fmt.Errorf("the limit of pools with metrics must not be negative, but is %d", c.PoolMetricsLimit)
	}
	if c.Workers < 1 {
		return fmt.Errorf("the number of workers must be positive, not %d", c.Workers)
	}
	_, err := scheduler.ParseStrategy(c.Strategy)
	return err
}

// Run runs the enabled controllers until the context ends, and returns when all have stopped. If one of them
// fails, Run stops the others and returns the error.
func (c Config) Run(ctx context.Context) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if c.Recorder == nil {
		c.Recorder = noEvents{}
	}
	informers := factories{SharedInformerFactory: externalversions.NewSharedInformerFactoryWithOptions(c.Client, 0, externalversions.WithTransform(dropUnread))}
	if c.Namespaces != nil {
		informers.core = kubeinformers.NewSharedInformerFactoryWithOptions(c.Namespaces, 0, kubeinformers.WithTransform(dropUnread))
	}
	var running []controller
	poolMetrics := pools.Config{Limit: cmp.Or(c.PoolMetricsLimit, pools.DefaultLimit)}
	for _, entry := range controllers {
		if !c.runs(entry.name) {
			continue
		}
		controller, err := entry.init(c, informers)
		if err != nil {
			return fmt.Errorf("%s: %w", entry.name, err)
		}
		running = append(running, controller)
		if waits, ok := controller.(interface {
			Waiting(namespace string) map[string]map[string]int
		}); ok {
			poolMetrics.Waiting = waits.Waiting
		}
	}
	if c.runs("prefix") {
		collector, err := pools.New(informers.Ipam().V1alpha1().Prefixes(), poolMetrics)
		if err != nil {
			return fmt.Errorf("metrics of pools: %w", err)
		}
		running = append(running, collector)
	}
	group, ctx := errgroup.WithContext(ctx)
	// If no controller is enabled, Run still waits for the context.
	group.Go(func() error {
		<-ctx.Done()
		return nil
	})
	for _, controller := range running {
		group.Go(func() error { return controller.Run(ctx) })
	}
	group.Go(func() error {
		c.awaitAPI(ctx)
		informers.StartWithContext(ctx)
		if informers.core != nil {
			informers.core.StartWithContext(ctx)
		}
		return nil
	})
	err := group.Wait()
	informers.Shutdown()
	if informers.core != nil {
		informers.core.Shutdown()
	}
	return err
}

// dropUnread is the transform of the informers. It drops what no controller reads: managed fields, which can need more
// memory than the rest of the object, and the conditions that the server derives. An update without them does not change
// what is stored.
func dropUnread(obj any) (any, error) {
	if object, err := meta.Accessor(obj); err == nil {
		object.SetManagedFields(nil)
	}
	switch object := obj.(type) {
	case *v1alpha1.Prefix:
		object.Status.Conditions = withoutDerived(object.Status.Conditions)
	case *corev1.Namespace:
		object.Annotations, object.Spec, object.Status = nil, corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	case *v1alpha1.PrefixAllocation:
		object.Status.Conditions = withoutDerived(object.Status.Conditions)
	}
	return obj, nil
}

// withoutDerived returns a copy of the conditions without those that the server derives.
func withoutDerived(conditions []metav1.Condition) []metav1.Condition {
	var stored []metav1.Condition
	for _, condition := range conditions {
		if condition.Type != v1alpha1.ConditionReady && condition.Type != v1alpha1.ConditionStalled {
			stored = append(stored, condition)
		}
	}
	return stored
}

// discoveryTimeout is the timeout of one request that checks whether the API is served. It is also the maximum delay
// that such a request adds to the shutdown.
const discoveryTimeout = 5 * time.Second

// awaitAPI waits until the API is served. This requires a serving certificate, which another process,
// ipam-certificate-controller, may have to issue first. Informers would retry with growing delays.
func (c Config) awaitAPI(ctx context.Context) {
	logger, waits := klog.FromContext(ctx), false
	// The only possible error is the end of the context.
	_ = wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		// Let a request finish when the context ends. The server would log a canceled request as an error.
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), discoveryTimeout)
		defer cancel()
		_, err := c.Client.Discovery().ServerResourcesForGroupVersionWithContext(asking, v1alpha1.GroupVersion.String())
		if err != nil && !waits && ctx.Err() == nil {
			waits = true
			logger.Info("Waiting until the API is served", "groupVersion", v1alpha1.GroupVersion, "err", err)
		}
		return err == nil, nil
	})
}
