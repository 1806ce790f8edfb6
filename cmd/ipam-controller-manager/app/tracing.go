// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/tracing"
	tracingapi "k8s.io/component-base/tracing/api/v1"
	"k8s.io/klog/v2"
)

// flushTimeout is how long the process waits at its end for the collector to take the last spans.
const flushTimeout = 5 * time.Second

// startTracing makes the controllers send spans as a file says that has the format of kube-apiserver's. If file is empty,
// there are no spans. wrap makes the requests of a client part of the traces. stop sends the last spans.
func startTracing(ctx context.Context, file string) (wrap func(*rest.Config), stop func(), err error) {
	if file == "" {
		return func(*rest.Config) {}, func() {}, nil
	}
	config, err := genericoptions.ReadTracingConfiguration(file)
	if err != nil {
		return nil, nil, err
	}
	if err := tracingapi.ValidateTracingConfiguration(config, nil, nil).ToAggregate(); err != nil {
		return nil, nil, err
	}
	provider, err := tracing.NewProvider(ctx, config, nil, []resource.Option{resource.WithAttributes(attribute.String("service.name", component))})
	if err != nil {
		return nil, nil, err
	}
	otel.SetTracerProvider(provider)
	return func(config *rest.Config) { config.Wrap(tracing.WrapperFor(provider)) }, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "The last spans may be lost")
		}
	}, nil
}
