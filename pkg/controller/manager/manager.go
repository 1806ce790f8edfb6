// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package manager runs the controllers.
package manager

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/prefix"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/scheduler"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
)

// Config is what the controllers need.
type Config struct {
	// Client talks to the API server. It should not limit its rate: the server does.
	Client versioned.Interface
	// Recorder records events. It may be nil where there is no API for them.
	Recorder events.EventRecorder
	// Controllers are the names of those that run; "*" is all.
	Controllers []string
	// Strategy is by what the scheduler chooses among parents, Pack or Spread.
	Strategy string
	// Workers is how many objects a controller works on at a time.
	Workers int
}

// controller runs until the context ends.
type controller interface {
	Run(ctx context.Context) error
}

// controllers are all there are.
var controllers = []struct {
	name string
	init func(Config, externalversions.SharedInformerFactory) (controller, error)
}{
	{"prefix", func(c Config, f externalversions.SharedInformerFactory) (controller, error) {
		v1alpha1 := f.Ipam().V1alpha1()
		return prefix.New(c.Client, v1alpha1.Prefixes(), v1alpha1.PrefixAllocations(), c.Recorder, c.Workers)
	}},
	{"scheduler", func(c Config, f externalversions.SharedInformerFactory) (controller, error) {
		strategy, err := scheduler.StrategyByName(c.Strategy)
		if err != nil {
			return nil, err
		}
		v1alpha1 := f.Ipam().V1alpha1()
		return scheduler.New(c.Client, v1alpha1.Prefixes(), v1alpha1.PrefixAllocations(), c.Recorder, strategy, c.Workers)
	}},
}

// ClientConfig returns a copy of a configuration with what is best for controllers.
func ClientConfig(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	// The server limits the rate, by priority and fairness.
	config.QPS = -1
	// It is near, and its time is worth more than bytes.
	config.DisableCompression = true
	// It is less than half the work of JSON, for both sides.
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return config
}

// Names returns the names of the controllers.
func Names() []string {
	var names []string
	for _, c := range controllers {
		names = append(names, c.name)
	}
	return names
}

// runs tells whether a controller is to run.
func (c Config) runs(name string) bool {
	return slices.Contains(c.Controllers, name) || slices.Contains(c.Controllers, "*")
}

// Validate tells what is wrong with the configuration.
func (c Config) Validate() error {
	all := Names()
	for _, name := range c.Controllers {
		if name != "*" && !slices.Contains(all, name) {
			return fmt.Errorf("unknown controller %q, must be one of %q or *", name, all)
		}
	}
	if c.Workers < 1 {
		return fmt.Errorf("there must be at least one worker, not %d", c.Workers)
	}
	_, err := scheduler.StrategyByName(c.Strategy)
	return err
}

// Run runs the controllers until the context ends, and returns when all of them have.
func (c Config) Run(ctx context.Context) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if c.Recorder == nil {
		c.Recorder = noEvents{}
	}
	informers := externalversions.NewSharedInformerFactoryWithOptions(c.Client, 0, externalversions.WithTransform(dropManagedFields))
	var running []controller
	for _, entry := range controllers {
		if !c.runs(entry.name) {
			continue
		}
		controller, err := entry.init(c, informers)
		if err != nil {
			return fmt.Errorf("%s: %w", entry.name, err)
		}
		running = append(running, controller)
	}
	group, ctx := errgroup.WithContext(ctx)
	// Without any controller there is nothing to do, but not an end either.
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
		return nil
	})
	err := group.Wait()
	informers.Shutdown()
	return err
}

// dropManagedFields is the transform of the informers. No controller reads managed fields, and they can take more memory than
// the rest of the object. A write without managed fields leaves those that are stored as they are.
func dropManagedFields(obj any) (any, error) {
	if object, err := meta.Accessor(obj); err == nil {
		object.SetManagedFields(nil)
	}
	return obj, nil
}

// awaitPatience is how long one question lasts whether the API is served, and so how much longer the end can take.
const awaitPatience = 5 * time.Second

// awaitAPI waits until the API is served, which it is not before it has a certificate.
// Informers would ask again after longer and longer times.
func (c Config) awaitAPI(ctx context.Context) {
	logger, waits := klog.FromContext(ctx), false
	// It ends with the context only.
	_ = wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		// A request that is under way when the context ends is answered: the server would log one that is cut off as an error.
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), awaitPatience)
		defer cancel()
		_, err := c.Client.Discovery().ServerResourcesForGroupVersionWithContext(asking, v1alpha1.GroupVersion.String())
		if err != nil && !waits && ctx.Err() == nil {
			waits = true
			logger.Info("Wait until the API is served", "groupVersion", v1alpha1.GroupVersion, "err", err)
		}
		return err == nil, nil
	})
}
