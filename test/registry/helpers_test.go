// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package registry tests the served API: a real server with a real etcd. There are no controllers, so only the
// tested requests write.
package registry

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// server is an instance without controllers.
type server struct{ *harness.Server }

// shared is the server of all tests that need no special options. Each test uses its own namespace.
var shared server

func TestMain(m *testing.M) {
	harness.Main(m, func(dir string) (func(), error) {
		s, err := harness.StartServer(dir)
		if err != nil {
			return nil, err
		}
		shared = server{s}
		return s.Close, nil
	})
}

// start starts a server with other options for one test.
func start(t *testing.T, options ...harness.Option) server {
	t.Helper()
	return server{harness.Start(t, options...)}
}

// write applies changes, a merge patch, to the object: with PUT, or with a patch of the given type.
func (s server) write(t *testing.T, obj *unstructured.Unstructured, contentType, changes string, below ...string) harness.Answer {
	t.Helper()
	switch contentType {
	case harness.JSON:
		whole := obj.DeepCopy()
		harness.Merge(whole.Object, harness.ParseObject(t, changes))
		// The changes may include the name.
		return s.Raw(t, http.MethodPut, harness.PathOf(t, obj, below...), harness.JSON, harness.Encode(t, whole.Object))
	case harness.ApplyPatch:
		return s.Apply(t, obj.GetNamespace(), harness.KindOf(t, obj), "applier", changes, obj.GetName(), below...)
	default:
		return s.Patch(t, obj, contentType, changes, below...)
	}
}

// snapshot returns all keys of a namespace in etcd, with their values.
func (s server) snapshot(t *testing.T, namespace string) map[string]string {
	t.Helper()
	stored := map[string]string{}
	for _, k := range harness.Kinds {
		prefix := apiserver.DefaultEtcdPrefix + "/ipam.ironcore.dev/" + k.Resource + "/" + namespace + "/"
		response, err := s.Etcd.Get(t.Context(), prefix, clientv3.WithPrefix())
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range response.Kvs {
			stored[string(kv.Key)] = fmt.Sprintf("revision %d: %s", kv.ModRevision, kv.Value)
		}
	}
	return stored
}
