// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package app implements the command line of ipam-controller-manager.
package app

import (
	"context"
	"fmt"
	"slices"

	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/certificate"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/direct"
	"github.com/ironcore-dev/ipam-apiserver/pkg/controller/manager"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/component-base/featuregate"
	metricsfeatures "k8s.io/component-base/metrics/features"
	"k8s.io/klog/v2"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	// Register the metrics of the clients and the work queues.
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	_ "k8s.io/component-base/metrics/prometheus/workqueue"
)

const component = "ipam-controller-manager"

// NewCommand returns the command. It runs the controllers until ctx ends.
func NewCommand(ctx context.Context) *cobra.Command {
	options := NewOptions()
	cmd := &cobra.Command{
		Use:   component,
		Short: "Allocate prefixes of the API group ipam.ironcore.dev",
		Long: component + " creates a PrefixAllocation for each child Prefix, allocates a free prefix of a parent to it, " +
			"completes the child, and updates the status of the parents. If several managers run, only the leader is active.",
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
	cmd.AddCommand(newCertificatesCommand(ctx))
	return cmd
}

func run(ctx context.Context, options *Options) error {
	if err := enableNativeHistograms(); err != nil {
		return err
	}
	restConfig, err := options.clientConfig(component)
	if err != nil {
		return err
	}
	trace, stop, err := startTracing(ctx, options.TracingConfigFile)
	if err != nil {
		return fmt.Errorf("--tracing-config-file: %w", err)
	}
	defer stop()
	ipamConfig := restConfig
	if options.APIServiceAddress != "" {
		client, err := aggregator.NewForConfig(rest.AddUserAgent(restConfig, "apiservice"))
		if err != nil {
			return err
		}
		login := direct.WithToken(restConfig, options.APIServiceTokenFile)
		if ipamConfig, err = direct.Config(login, client.ApiregistrationV1().APIServices(), certificate.APIService, options.APIServiceAddress); err != nil {
			return err
		}
	}
	// Only the requests about Prefixes: those that renew the lease would be a trace each.
	ipamConfig = rest.CopyConfig(ipamConfig)
	trace(ipamConfig)
	config := options.config()
	if config.Client, err = versioned.NewForConfig(ipamConfig); err != nil {
		return err
	}
	kubeClient, err := kubernetes.NewForConfig(rest.AddUserAgent(restConfig, "events"))
	if err != nil {
		return err
	}
	return options.lead(ctx, kubeClient, func(ctx context.Context) error {
		if servesNamespaces(ctx, kubeClient.Discovery()) {
			config.Namespaces = kubeClient
		} else {
			klog.FromContext(ctx).Info("The server has no API for namespaces: PrefixPolicies cannot select namespaces by label")
		}
		if servesEvents(ctx, kubeClient.Discovery()) {
			broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: kubeClient.EventsV1()})
			if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
				return err
			}
			defer broadcaster.Shutdown()
			config.Recorder = manager.LimitEvents(broadcaster.NewRecorder(scheme.Scheme, component), options.EventQPS, options.EventBurst)
		} else {
			klog.FromContext(ctx).Info("The server has no API for events: no events are recorded")
		}
		return config.Run(ctx)
	})
}

// enableNativeHistograms makes histograms that are registered from now on native ones, too. Those of the libraries are
// registered already. The gate of component-base decides, which is on by default.
func enableNativeHistograms() error {
	gate := featuregate.NewFeatureGate()
	if err := metricsfeatures.AddFeatureGates(gate); err != nil {
		return err
	}
	metricsfeatures.ApplyFeatureGates(gate)
	return nil
}

// servesEvents reports whether the server has the API group of events. If discovery fails for any other reason than
// that the group is not found, it returns true.
func servesEvents(ctx context.Context, client discovery.ServerResourcesInterfaceWithContext) bool {
	_, err := client.ServerResourcesForGroupVersionWithContext(ctx, eventsv1.SchemeGroupVersion.String())
	return !apierrors.IsNotFound(err)
}

// servesNamespaces reports whether a server has the API for namespaces. The IPAM server without a cluster has none. If that
// is unknown, servesNamespaces returns true.
func servesNamespaces(ctx context.Context, client discovery.ServerResourcesInterfaceWithContext) bool {
	resources, err := client.ServerResourcesForGroupVersionWithContext(ctx, corev1.SchemeGroupVersion.String())
	if err != nil {
		return !apierrors.IsNotFound(err)
	}
	return slices.ContainsFunc(resources.APIResources, func(resource metav1.APIResource) bool { return resource.Name == "namespaces" })
}
