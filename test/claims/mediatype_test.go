// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/harness"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestStorageMediaType runs servers one after the other on the same store. They write different media types, and
// read each other's objects.
func TestStorageMediaType(t *testing.T) {
	dir := t.TempDir()
	for n, tt := range []struct{ mediaType, begins string }{
		{"", "k8s\x00"},
		{"application/json", "{"},
		{"application/vnd.kubernetes.protobuf", "k8s\x00"},
	} {
		instance := harness.Start(t, harness.DataDir(dir), harness.Controllers("*"), harness.Customize(func(o *apiserver.Options) {
			if tt.mediaType != "" {
				o.Recommended.Etcd.DefaultStorageMediaType = tt.mediaType
			}
		}))
		prefixes := instance.Client.Prefixes(here)
		if n == 0 {
			create(t, prefixes, harness.Root("root", "10.0.0.0/8"))
		}
		name := fmt.Sprintf("child-%d", n)
		create(t, prefixes, harness.Child(name, "root", harness.Length(24)))
		waitAllocated(t, prefixes)

		if value := connect(t, instance.EtcdEndpoints).world(t)[prefixKey(here, name)]; !strings.HasPrefix(value, tt.begins) {
			t.Errorf("as %q: %.300q", tt.mediaType, value)
		}
		// An object that another server wrote is rewritten when it changes.
		p, err := prefixes.Get(t.Context(), "child-0", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.Labels = map[string]string{"writer": name}
		if _, err := prefixes.Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Error(err)
		}
		instance.Close()
	}
}
