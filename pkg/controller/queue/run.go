// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// Run processes the names in a queue until the context ends, up to workers at a time. Then it shuts the queue down.
func Run(ctx context.Context, q Queue, workers int, process func(context.Context, types.NamespacedName) error) {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for Next(ctx, q, process) {
			}
		})
	}
	<-ctx.Done()
	q.ShutDown()
	wg.Wait()
}

// Next waits for the next name in a queue and processes it. If process fails, the name is processed again later. Next
// returns false if the queue is shut down.
func Next(ctx context.Context, q Queue, process func(context.Context, types.NamespacedName) error) bool {
	name, shutdown := q.Get()
	if shutdown {
		return false
	}
	defer q.Done(name)
	switch err := process(ctx, name); {
	case err == nil:
		q.Forget(name)
	case ctx.Err() == nil:
		level := 0
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || IsRefusal(err) {
			// The informers are behind, or the status of the object shows the error.
			level = 2
		}
		klog.FromContext(ctx).V(level).Info("Trying again", "name", name, "reason", err.Error())
		q.AddRateLimited(name)
	}
	return true
}

// Span starts a span for an object that a controller works at. It is a root, unless the context has a span. Requests that are
// made with the returned context belong to it. It costs nearly nothing if the process has no tracer provider.
func Span(ctx context.Context, work string, object types.NamespacedName) (context.Context, trace.Span) {
	ctx, span := otel.Tracer("github.com/ironcore-dev/ipam-apiserver/pkg/controller").Start(ctx, work)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("namespace", object.Namespace), attribute.String("name", object.Name))
	}
	return ctx, span
}

// IsRefusal reports whether the API server refused a request for a reason such as a quota, a policy or a permission. The
// request fails again until that changes, and there may be no event when it does.
func IsRefusal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	switch code := status.Status().Code; code {
	case http.StatusUnauthorized, http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	default:
		return code >= 400 && code < 500
	}
}
