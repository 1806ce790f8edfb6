// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam/v1alpha1"
	ipamclient "github.com/ironcore-dev/ipam-apiserver/generated/clientset/versioned/typed/ipam/v1alpha1"
	"github.com/ironcore-dev/ipam-apiserver/pkg/version"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/pager"
)

const (
	// pageSize is the number of objects in a page of a list. The server reads 10,000 or more at a time for the pages that
	// follow the first one.
	pageSize = 2500
	// mediaTypes are what the client accepts. Objects in protobuf are decoded eight times as fast as in JSON, which other
	// servers of the API group may serve instead.
	mediaTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
)

// fieldManager is the name under which the commands write.
const fieldManager = "kubectl-ipam"

// clients is the connection to a cluster.
type clients struct {
	ipam ipamclient.IpamV1alpha1Interface
	core corev1client.CoreV1Interface
	rest *rest.Config
	// namespace is the one of the context or of the flag --namespace. named is set if the flag names it.
	namespace string
	named     bool
}

// connect returns the connection, which it makes first if there is none.
func (s *session) connect() (*clients, error) {
	if s.clients != nil {
		return s.clients, nil
	}
	config, err := s.config.ToRESTConfig()
	if err != nil {
		return nil, exitf(ExitUsage, "%w", err)
	}
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.AcceptContentTypes, config.ContentType = mediaTypes, runtime.ContentTypeJSON
	config.UserAgent = fieldManager + "/" + version.Get()
	c := &clients{rest: config}
	if c.namespace, c.named, err = s.config.ToRawKubeConfigLoader().Namespace(); err != nil {
		return nil, exitf(ExitUsage, "%w", err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	if c.ipam, err = ipamclient.NewForConfigAndClient(config, client); err != nil {
		return nil, err
	}
	if c.core, err = corev1client.NewForConfigAndClient(config, client); err != nil {
		return nil, err
	}
	s.clients = c
	return c, nil
}

// get returns the connection, and a Prefix of the current namespace.
func (s *session) get(ctx context.Context, name string) (*clients, *v1alpha1.Prefix, error) {
	c, err := s.connect()
	if err != nil {
		return nil, nil, err
	}
	p, err := c.ipam.Prefixes(c.namespace).Get(ctx, name, metav1.GetOptions{})
	return c, p, err
}

// errStop ends a list early.
var errStop = errors.New("enough")

// eachPage lists objects in pages, and calls visit for each object. An error of visit ends the list. errStop ends it
// without an error.
//
// It does not set resourceVersion: with a limit, a server serves resourceVersion 0 as one page, and without a
// resourceVersion it serves all pages from its watch cache.
func eachPage(ctx context.Context, opts metav1.ListOptions, list func(context.Context, metav1.ListOptions) (runtime.Object, error), visit func(runtime.Object) error) error {
	pages := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		page, err := list(ctx, opts)
		// The server drops the snapshot of a list after a while, and offers a token for the rest as it is now.
		var status apierrors.APIStatus
		if opts.Continue != "" && apierrors.IsResourceExpired(err) && errors.As(err, &status) {
			if opts.Continue = status.Status().Continue; opts.Continue != "" {
				return list(ctx, opts)
			}
		}
		return page, err
	})
	pages.PageSize, pages.PageBufferSize = pageSize, 1
	if err := pages.EachListItem(ctx, opts, visit); !errors.Is(err, errStop) {
		return err
	}
	return nil
}

// eachPrefixIn visits the Prefixes of a namespace, or of all namespaces if it is empty. visit must not keep the Prefix.
func (c *clients) eachPrefixIn(ctx context.Context, namespace string, opts metav1.ListOptions, visit func(*v1alpha1.Prefix) error) error {
	return eachPage(ctx, opts, func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return c.ipam.Prefixes(namespace).List(ctx, opts)
	}, func(obj runtime.Object) error { return visit(obj.(*v1alpha1.Prefix)) })
}

// eachAllocationIn visits the PrefixAllocations of a namespace, or of all namespaces if it is empty. visit must not keep
// the PrefixAllocation.
func (c *clients) eachAllocationIn(ctx context.Context, namespace string, opts metav1.ListOptions, visit func(*v1alpha1.PrefixAllocation) error) error {
	return eachPage(ctx, opts, func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return c.ipam.PrefixAllocations(namespace).List(ctx, opts)
	}, func(obj runtime.Object) error { return visit(obj.(*v1alpha1.PrefixAllocation)) })
}

// selecting returns the options for a list of the objects of which a field has a value.
func selecting(field, value string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(field, value).String()}
}

// childrenOf returns the options for a list of the Prefixes whose parent has a name. An empty name stands for those
// without a parent.
func childrenOf(parent string) metav1.ListOptions {
	return selecting(v1alpha1.FieldParentRefName, parent)
}

// isChildOf reports whether a Prefix names another one as its parent. A list by childrenOf also contains the Prefixes whose
// parent has the same name in another namespace.
func isChildOf(child, parent *v1alpha1.Prefix) bool {
	return parentOf(child) == parent.Name && child.NamespaceOfParent() == parent.Namespace
}

// isAllocatedFrom reports whether a PrefixAllocation names a Prefix as its parent, like isChildOf.
func isAllocatedFrom(a *v1alpha1.PrefixAllocation, parent *v1alpha1.Prefix) bool {
	ref := a.Spec.PrefixRef
	return ref != nil && ref.Name == parent.Name && a.NamespaceOfParent() == parent.Namespace
}

// allocatedFrom returns the options for a list of the PrefixAllocations whose parent has a name.
func allocatedFrom(parent string) metav1.ListOptions {
	return selecting(v1alpha1.FieldPrefixRefName, parent)
}

// eachNamespace calls list for the namespaces that the command is about: the current one, or all of them, if possible at
// once. A caller who may not list all namespaces gets the readable ones. Then eachNamespace says which these are, and the
// command ends with ExitForbidden.
func (s *session) eachNamespace(ctx context.Context, all bool, list func(namespace string) error) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	if !all {
		return list(c.namespace)
	}
	refused := list(metav1.NamespaceAll)
	if !apierrors.IsForbidden(refused) {
		return refused
	}
	names, err := c.namespaces(ctx)
	if err != nil {
		names = []string{c.namespace}
	}
	var readable []string
	for _, name := range names {
		switch err := list(name); {
		case err == nil:
			readable = append(readable, name)
		case !apierrors.IsForbidden(err):
			return err
		}
	}
	if len(readable) == 0 {
		return refused
	}
	s.denied = true
	if in := strings.Join(readable, ", "); in != s.readable {
		s.readable = in
		s.say("You may not read all namespaces. This is what is in: %s", in)
	}
	return nil
}

// namespaces returns the names of all namespaces.
func (c *clients) namespaces(ctx context.Context) ([]string, error) {
	var names []string
	err := eachPage(ctx, metav1.ListOptions{}, func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
		return c.core.Namespaces().List(ctx, opts)
	}, func(obj runtime.Object) error {
		object, err := meta.Accessor(obj)
		if err == nil {
			names = append(names, object.GetName())
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

// parseSelector parses the flag --selector.
func (s *session) parseSelector() (labels.Selector, error) {
	selector, err := labels.Parse(s.selector)
	if err != nil {
		return nil, exitf(ExitUsage, "--selector: %w", err)
	}
	return selector, nil
}
