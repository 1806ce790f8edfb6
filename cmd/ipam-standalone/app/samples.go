// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned"
	"github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/scheme"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/cli-runtime/pkg/printers"
)

const (
	// settleTimeout is how long the samples may take to settle. See waitSettled.
	settleTimeout = 30 * time.Second
	// settleRest is how long no sample may change before the samples that are not allocated count as settled.
	settleRest = 300 * time.Millisecond
)

// applySamples creates the objects in the manifests at path that do not exist yet. It waits until they have settled,
// and prints the same table as kubectl get prefixes.
func applySamples(ctx context.Context, client versioned.Interface, path string, out io.Writer) error {
	objs, err := readManifests(path)
	if err != nil {
		return err
	}
	if err := applyPolicies(ctx, client, objs); err != nil {
		return err
	}
	for _, obj := range objs {
		switch obj := obj.(type) {
		case *v1alpha1.Prefix:
			_, err = client.IpamV1alpha1().Prefixes(obj.Namespace).Create(ctx, obj, metav1.CreateOptions{})
		case *v1alpha1.PrefixAllocation:
			_, err = client.IpamV1alpha1().PrefixAllocations(obj.Namespace).Create(ctx, obj, metav1.CreateOptions{})
		}
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("sample: %w", err)
		}
	}
	if err := waitSettled(ctx, client, objs); err != nil {
		return err
	}
	return printPrefixes(ctx, client, out)
}

// policyTimeout is how long the controllers may take to see the PrefixPolicies. Without controllers they never do.
const policyTimeout = 5 * time.Second

// applyPolicies creates the PrefixPolicies, and waits until the controllers know them, so that their rules hold for the
// Prefixes that come next.
func applyPolicies(ctx context.Context, client versioned.Interface, objs []runtime.Object) error {
	var policies []*v1alpha1.PrefixPolicy
	for _, obj := range objs {
		policy, ok := obj.(*v1alpha1.PrefixPolicy)
		if !ok {
			continue
		}
		created, err := client.IpamV1alpha1().PrefixPolicies(policy.Namespace).Create(ctx, policy, metav1.CreateOptions{})
		switch {
		case err == nil:
			policies = append(policies, created)
		case !apierrors.IsAlreadyExists(err):
			return fmt.Errorf("sample: %w", err)
		}
	}
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, policyTimeout, true, func(ctx context.Context) (bool, error) {
		for _, policy := range policies {
			now, err := client.IpamV1alpha1().PrefixPolicies(policy.Namespace).Get(ctx, policy.Name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			if meta.FindStatusCondition(now.Status.Conditions, v1alpha1.ConditionReady) == nil {
				return false, nil
			}
		}
		return true, nil
	})
	if wait.Interrupted(err) && ctx.Err() == nil {
		return nil
	}
	return err
}

// readManifests reads the objects in a file, or in all .yaml, .yml and .json files of a directory except
// kustomization.yaml.
func readManifests(path string) ([]runtime.Object, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		files = nil
		for _, entry := range entries {
			if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name())) && entry.Name() != "kustomization.yaml" {
				files = append(files, filepath.Join(path, entry.Name()))
			}
		}
	}
	var objs []runtime.Object
	for _, file := range files {
		read, err := readManifest(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		objs = append(objs, read...)
	}
	return objs, nil
}

func readManifest(file string) ([]runtime.Object, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var objs []runtime.Object
	documents := yaml.NewYAMLReader(bufio.NewReader(f))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objs, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := yaml.ToJSON(document)
		if err != nil {
			return nil, err
		}
		if string(data) == "null" {
			continue
		}
		obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(data, nil, nil)
		if err != nil {
			return nil, err
		}
		object, err := meta.Accessor(obj)
		if err != nil {
			return nil, err
		}
		if object.GetNamespace() == "" {
			object.SetNamespace(metav1.NamespaceDefault)
		}
		objs = append(objs, obj)
	}
}

// waitSettled waits until all Prefixes are allocated, or until each has the condition Allocated and none has changed
// for settleRest. The condition alone is not enough: at first a child may report that its parent is not ready yet.
func waitSettled(ctx context.Context, client versioned.Interface, objs []runtime.Object) error {
	var last string
	var since time.Time
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, settleTimeout, true, func(ctx context.Context) (bool, error) {
		explained, allocated := true, true
		var versions strings.Builder
		for _, obj := range objs {
			sample, ok := obj.(*v1alpha1.Prefix)
			if !ok {
				continue
			}
			prefix, err := client.IpamV1alpha1().Prefixes(sample.Namespace).Get(ctx, sample.Name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			explained = explained && meta.FindStatusCondition(prefix.Status.Conditions, v1alpha1.ConditionAllocated) != nil
			allocated = allocated && prefix.Status.Phase == v1alpha1.PrefixPhaseAllocated
			fmt.Fprintln(&versions, prefix.ResourceVersion)
		}
		if now := versions.String(); now != last {
			last, since = now, time.Now()
		}
		return allocated || explained && time.Since(since) >= settleRest, nil
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("the status of the samples keeps changing: %w", err)
	}
	return nil
}

// printPrefixes prints the Prefixes of the default namespace. As for kubectl, the server renders the table.
func printPrefixes(ctx context.Context, client versioned.Interface, out io.Writer) error {
	table := &metav1.Table{}
	err := client.IpamV1alpha1().RESTClient().Get().
		Namespace(metav1.NamespaceDefault).
		Resource("prefixes").
		SetHeader("Accept", "application/json;as=Table;g=meta.k8s.io;v=v1").
		Do(ctx).
		Into(table)
	if err != nil {
		return err
	}
	return printers.NewTablePrinter(printers.PrintOptions{}).PrintObj(table, out)
}
