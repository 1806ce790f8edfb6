// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// TestExpired shows that a server that always says that a version is too old is not asked without pause, whether it refuses
// the watch or ends it, and that the feed goes on at once when a watch that was there for long ends in this way.
func TestExpired(t *testing.T) {
	expired := apierrors.NewResourceExpired("too old")
	for name, answer := range map[string]func(context.Context) (watch.Interface, error){
		"refused": func(context.Context) (watch.Interface, error) { return nil, expired },
		"ended": func(context.Context) (watch.Interface, error) {
			w := watch.NewFakeWithChanSize(1, false)
			status := expired.Status()
			w.Error(&status)
			return w, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lists := 0
				f := &feed{kind: prefixKind, name: "Prefixes", model: newModel(), phase: phaseReading,
					list: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
						lists++
						return &v1alpha1.PrefixList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, nil
					},
					watch: func(ctx context.Context, _ metav1.ListOptions) (watch.Interface, error) { return answer(ctx) },
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				f.run(ctx)
				// The pauses grow to 5 s, less up to a half.
				if lists < 100 || lists > 250 {
					t.Errorf("%d lists in 10 minutes", lists)
				}
			})
		})
	}
}
