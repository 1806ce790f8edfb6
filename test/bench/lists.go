// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/apiserver"
	"github.com/ironcore-dev/ipam-apiserver/test/process"
	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// pageSize is the page size of kubectl.
	pageSize = 500
	// listers is the number of users that list in a loop beside the writer.
	listers = 3
)

// stored is a key of etcd. Its value is that of an object, unless there is none.
type stored struct {
	key    string
	object runtime.Object
	value  string
}

// put puts objects into etcd as the API server stores them, which is much faster than creating them. objects returns the
// keys of each of them.
func (b *bench) put(endpoint, what string, count int, objects func(n int) []stored) {
	b.Helper()
	b.progress.phase(fmt.Sprintf("put %d %s into etcd", count, what), count)
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	info, _ := runtime.SerializerInfoForMediaType(apiserver.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	encoder := apiserver.Codecs.EncoderForVersion(info.Serializer, schema.GroupVersion(v1alpha1.GroupVersion))
	// The limit of etcd is 128 operations in a transaction.
	const batch = 40
	each(b.ctx, (count+batch-1)/batch, 8, func(n int) {
		var puts []clientv3.Op
		for i := n * batch; i < min(count, (n+1)*batch); i++ {
			for _, s := range objects(i) {
				if s.object != nil {
					data, err := runtime.Encode(encoder, s.object)
					if err != nil {
						b.Error(err)
						return
					}
					s.value = string(data)
				}
				puts = append(puts, clientv3.OpPut(s.key, s.value))
			}
			b.progress.step()
		}
		if _, err := client.Txn(b.ctx).Then(puts...).Commit(); err != nil {
			b.Error(err)
		}
	})
}

// load puts Prefixes into etcd that wait for a parent.
func load(b *bench, endpoint string, count int) {
	b.Helper()
	b.put(endpoint, "Prefixes", count, func(n int) []stored {
		p := child("loaded", n, of("nobody"))
		p.Status.Phase = v1alpha1.PrefixPhasePending
		return []stored{{key: prefixKeys + namespace + "/" + p.Name, object: complete(p, uuid.NewUUID())}}
	})
}

// startLoaded starts an API server without controllers on a store with count Prefixes.
func startLoaded(b *bench, count int) *separate {
	b.Helper()
	s := startSeparate(b, b.TempDir(), 0, func(endpoint string) { load(b, endpoint, count) })
	s.progress.phase(fmt.Sprintf("lists of %d", count), 0)
	return s
}

// listAll lists all Prefixes as a user, in pages unless the limit is 0, and returns their number.
func listAll(ctx context.Context, user ipamclient.PrefixInterface, limit int64) (int, error) {
	count := 0
	for options := (metav1.ListOptions{Limit: limit}); ; {
		list, err := user.List(ctx, options)
		if err != nil {
			return count, err
		}
		count += len(list.Items)
		if options.Continue = list.Continue; options.Continue == "" {
			return count, nil
		}
	}
}

// timed lists all Prefixes and returns the time in seconds.
func (s *separate) timed(limit int64, expected int) float64 {
	s.Helper()
	start := time.Now()
	count, err := listAll(s.ctx, s.user, limit)
	if err != nil || count < expected {
		s.Fatalf("listed %d of %d: %v", count, expected, err)
	}
	return time.Since(start).Seconds()
}

// listCommandName is the command of this program that runs as a process of its own for each user who lists.
const listCommandName = "list-forever"

// firstPage is what that process prints when it has got the first page.
const firstPage = "the first page is here"

// tables is the media type that kubectl accepts.
const tables = "application/json;as=Table;v=v1;g=meta.k8s.io"

// nextPage returns the continue token of a table in JSON. It reads no row.
func nextPage(page []byte) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(page))
	for {
		token, err := decoder.Token()
		if err != nil {
			return "", err
		}
		if token == "metadata" {
			var list metav1.ListMeta
			err := decoder.Decode(&list)
			return list.Continue, err
		}
	}
}

// newListCommand returns the command of a user who lists all Prefixes in pages, as kubectl does, again and again.
func newListCommand() *cobra.Command {
	return &cobra.Command{
		Use:    listCommandName + " KUBECONFIG",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", args[0])
			if err != nil {
				return err
			}
			// Not every client limits itself, as kubectl does.
			config.QPS = -1
			user := versioned.NewForConfigOrDie(config).IpamV1alpha1().RESTClient()
			for next, pages := "", 0; ; pages++ {
				if pages == 1 {
					fmt.Println(firstPage)
				}
				// kubectl asks for tables. What it does with them is left out, since its machine is another one.
				page, err := user.Get().Namespace(namespace).Resource("prefixes").SetHeader("Accept", tables).
					VersionedParams(&metav1.ListOptions{Limit: pageSize, Continue: next}, metav1.ParameterCodec).DoRaw(cmd.Context())
				if err != nil {
					return err
				}
				if next, err = nextPage(page); err != nil {
					return err
				}
			}
		},
	}
}

// measureLists compares lists in pages with complete lists, for two sizes.
func measureLists(b *bench) {
	var each []float64
	for _, size := range []struct {
		id    string
		count int
	}{{"100k", b.count(100_000)}, {"1M", b.count(1_000_000)}} {
		s := startLoaded(b, size.count)
		times := turns(rounds,
			func(int) float64 { return s.timed(pageSize, size.count) },
			func(int) float64 { return s.timed(0, size.count) })
		b.median("paged/whole "+size.id, ratios(times[0], times[1]))
		b.median("paged "+size.id, times[0])
		each = append(each, median(times[0])/float64(size.count))
		s.stop()
	}
	b.set("linear", each[1]/each[0])
}

// measureWriterBesideLists measures writes with and without users that list in a loop.
func measureWriterBesideLists(b *bench) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	size, writes := b.count(100_000), b.count(500)
	s := startLoaded(b, size)
	batch := 0
	write := func() float64 {
		batch++
		took := make([]float64, 0, writes)
		for n := range writes {
			p := child(fmt.Sprint("written-", batch), n, of("nobody"))
			start := time.Now()
			if _, err := s.user.Create(s.ctx, p, metav1.CreateOptions{}); err != nil {
				s.Fatal(err)
			}
			took = append(took, float64(time.Since(start).Microseconds())/1000)
			time.Sleep(20 * time.Millisecond)
		}
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	times := turns(rounds, func(int) float64 { return write() }, func(int) float64 {
		// etcd and the writer are in this process. Users who list have machines of their own.
		var users []*process.Process
		for range listers {
			users = append(users, process.Start(b, b.TempDir(), "nice", "-n", "19", self, listCommandName, s.kubeconfig))
		}
		for _, user := range users {
			for !strings.Contains(user.LastOfLog(2000), firstPage) {
				if user.HasEnded() {
					b.Fatalf("a user who lists ended: %s", user.LastOfLog(2000))
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		defer func() {
			for _, user := range users {
				if user.HasEnded() {
					b.Errorf("a user who lists ended: %s", user.LastOfLog(2000))
				}
				user.Kill()
			}
		}()
		return write()
	})
	b.median("write beside lists", ratios(times[1], times[0]))
	b.median("write", times[0])
	b.median("write with lists", times[1])
}
