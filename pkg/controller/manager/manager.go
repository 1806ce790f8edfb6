// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package manager runs the controllers.
package manager

import (
	"context"
	"fmt"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/informers/externalversions"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/prefix"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/scheduler"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
)

// Config is what the controllers need.
type Config struct {
	// Client talks to the API server. It should not limit its rate: the server does.
	Client versioned.Interface
	// Recorder records events. It may be nil where there is no API for them.
	Recorder events.EventRecorder
	// Controllers are the names of those that run; "*" is all of them.
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

// Names returns the names of all controllers.
func Names() []string {
	var names []string
	for _, c := range controllers {
		names = append(names, c.name)
	}
	return names
}

// Validate tells what is wrong with the configuration.
func (c Config) Validate() error {
	for _, name := range c.Controllers {
		if name != "*" && !slices.Contains(Names(), name) {
			return fmt.Errorf("unknown controller %q, must be one of %q or *", name, Names())
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
	informers := externalversions.NewSharedInformerFactory(c.Client, 0)
	group, ctx := errgroup.WithContext(ctx)
	// Without any controller there is nothing to do, but not an end either.
	group.Go(func() error {
		<-ctx.Done()
		return nil
	})
	for _, entry := range controllers {
		if !slices.Contains(c.Controllers, "*") && !slices.Contains(c.Controllers, entry.name) {
			continue
		}
		controller, err := entry.init(c, informers)
		if err != nil {
			return fmt.Errorf("%s: %w", entry.name, err)
		}
		group.Go(func() error { return controller.Run(ctx) })
	}
	informers.StartWithContext(ctx)
	err := group.Wait()
	informers.Shutdown()
	return err
}

// noEvents is for where there is no API for events.
type noEvents struct{}

// Eventf implements events.EventRecorder.
func (noEvents) Eventf(runtime.Object, runtime.Object, string, string, string, string, ...any) {}
