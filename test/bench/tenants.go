// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	// unread is the number of watches that are opened and not read.
	unread = 100
	// selectors is the number of different selectors of the tenants.
	selectors = 64
	// rested is the idle time of the programs before their memory is measured.
	rested = time.Minute
)

// measureTenantMemory does what tenants can do to make the programs retain memory.
func measureTenantMemory(b *bench) {
	s := startSeparate(b, b.TempDir(), 1)
	s.root("root")
	s.allocate("some children", "warm", b.count(1000), of("root"))
	before := s.sample(1)

	patches := b.count(700)
	s.progress.phase("labels", patches)
	s.create(child("labelled", 0, of("nobody")))
	accepted := 0
	for n := range patches {
		labels := make([]string, 0, 2000)
		for i := range 2000 {
			labels = append(labels, fmt.Sprintf(`"label-%d-%d":"value-%d-%d"`, n, i, n, i))
		}
		_, err := s.user.Patch(s.ctx, "labelled-0", "application/json-patch+json",
			[]byte(`[{"op":"replace","path":"/metadata/labels","value":{`+strings.Join(labels, ",")+`}}]`), metav1.PatchOptions{})
		switch {
		case err == nil:
			accepted++
		case !apierrors.IsInvalid(err) && !apierrors.IsRequestEntityTooLargeError(err):
			s.Fatal(err)
		}
		s.progress.step()
	}

	count := b.count(3200)
	s.progress.phase("selectors", count)
	each(s.ctx, count, creators, func(n int) {
		spec := v1alpha1.PrefixSpec{IPFamily: v1alpha1.IPv4, PrefixLength: int32(9 + n%24), ParentSelector: &metav1.LabelSelector{
			MatchLabels:      map[string]string{batchLabel: "root"},
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: fmt.Sprint("not-", n%selectors), Operator: metav1.LabelSelectorOpDoesNotExist}},
		}}
		s.create(child("selecting", n, spec))
		s.progress.step()
	})

	objects := b.count(10_000)
	s.progress.phase("watches that nobody reads", objects)
	client, err := rest.HTTPClientFor(s.config)
	if err != nil {
		s.Fatal(err)
	}
	defer client.CloseIdleConnections()
	for range unread {
		request, err := http.NewRequestWithContext(s.ctx, http.MethodGet,
			s.config.Host+"/apis/ipam.ironcore.dev/v1alpha1/namespaces/"+namespace+"/prefixes?watch=true", nil)
		if err != nil {
			s.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			s.Fatal(err)
		}
		defer response.Body.Close()
	}
	each(s.ctx, objects, creators, func(n int) {
		p := child("large", n, of("nobody"))
		for i := range 50 {
			p.Labels[fmt.Sprint("label-", i)] = fmt.Sprintf("%s-%d", strings.Repeat("x", 50), n)
		}
		s.create(p)
		s.progress.step()
	})
	at := s.sample(1)
	s.progress.phase("rest", 0)
	time.Sleep(rested)
	after := s.sample(1)

	const mebibyte = 1 << 20
	b.set("server before", before.server.resident/mebibyte)
	b.set("server", at.server.resident/mebibyte)
	b.set("server rested", after.server.resident/mebibyte)
	b.set("manager", at.manager.resident/mebibyte)
	b.set("manager rested", after.manager.resident/mebibyte)
	b.set("accepted", float64(accepted)/float64(patches)*100)
}
