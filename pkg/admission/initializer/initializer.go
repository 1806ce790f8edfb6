// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package initializer gives the admission plugins access to Prefixes, and collects what they want the storage to
// enforce.
package initializer

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/admission"
	genericinitializer "k8s.io/apiserver/pkg/admission/initializer"
	quota "k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/klog/v2"
)

// Reader reads Prefixes for the admission plugins. The caller must not modify the returned objects.
type Reader interface {
	// Prefix returns a Prefix, or nil if it does not exist. Unless live is set, the Prefix comes from a cache and may
	// be stale.
	Prefix(ctx context.Context, namespace, name string, live bool) (*ipam.Prefix, error)
	// RootsOverlapping returns the roots of a namespace that overlap a prefix, from a cache. If there are very many, it
	// may return only some of them.
	RootsOverlapping(ctx context.Context, namespace string, prefix netip.Prefix) ([]ipam.Prefix, error)
	// AnyMatches reports whether a selector matches any Prefix of a namespace, according to a cache.
	AnyMatches(ctx context.Context, namespace string, selector labels.Selector) (bool, error)
	// Children returns the number of prefixes that are allocated from a Prefix.
	Children(ctx context.Context, prefix *ipam.Prefix) (int64, error)
	// Holder returns a prefix that is allocated from parent and overlaps the given one, and the name of its holder. If
	// there is none, the returned prefix is not valid. It tells a reader of the given namespace nothing of other ones.
	Holder(ctx context.Context, parent *ipam.Prefix, prefix netip.Prefix, namespace string) (held netip.Prefix, by string, err error)
	// Shared reports whether a Prefix is in a namespace, or shared with it, according to a cache.
	Shared(ctx context.Context, prefix *ipam.Prefix, namespace string) (bool, error)
}

// Enforced holds the rules that the storage must enforce in its transactions. A plugin alone cannot enforce them: it
// checks a request before the write, and does not see concurrent writes.
type Enforced struct {
	// DisjointRoots rejects new roots that overlap another root of the same namespace.
	DisjointRoots bool
}

// WantsEnforced is implemented by plugins that want the storage to enforce a rule.
type WantsEnforced interface {
	// SetEnforced sets the rules that the plugin wants. It is called after the plugin is configured.
	SetEnforced(*Enforced)
}

// WantsReader is implemented by plugins that read Prefixes.
type WantsReader interface {
	SetReader(Reader)
}

// WithReader implements WantsReader. Plugins that need a Reader embed it. They cannot be used without one.
type WithReader struct{ Reader Reader }

var (
	_ WantsReader                       = &WithReader{}
	_ admission.InitializationValidator = &WithReader{}
)

// SetReader implements WantsReader.
func (w *WithReader) SetReader(reader Reader) { w.Reader = reader }

// ValidateInitialization implements admission.InitializationValidator.
func (w *WithReader) ValidateInitialization() error {
	if w.Reader == nil {
		return errors.New("missing reader")
	}
	return nil
}

// New returns an initializer. It gives reader to the plugins that want one, sets the quota configuration, and records
// in enforced what the plugins want the storage to enforce.
func New(reader Reader, enforced *Enforced) admission.PluginInitializer {
	return pluginInitializer{reader, enforced}
}

type pluginInitializer struct {
	reader   Reader
	enforced *Enforced
}

// Initialize implements admission.PluginInitializer.
func (i pluginInitializer) Initialize(plugin admission.Interface) {
	if wants, ok := plugin.(WantsReader); ok {
		wants.SetReader(i.reader)
	}
	if wants, ok := plugin.(WantsEnforced); ok {
		wants.SetEnforced(i.enforced)
	}
	if wants, ok := plugin.(genericinitializer.WantsQuotaConfiguration); ok {
		// Resources without an evaluator are counted as objects, such as count/prefixes.ipam.ironcore.dev.
		wants.SetQuotaConfiguration(quota.NewConfiguration(nil, nil))
	}
}

// ErrNotReady is the error of a Deferred whose reader is not set yet.
var ErrNotReady = errors.New("the storage is not ready yet")

// Deferred is a Reader whose target is set later, because the plugins are created before the storage. Until then, its
// methods return ErrNotReady.
type Deferred struct{ reader atomic.Pointer[Reader] }

var _ Reader = &Deferred{}

// AnyMatches implements Reader.
func (d *Deferred) AnyMatches(ctx context.Context, namespace string, selector labels.Selector) (bool, error) {
	if reader := d.reader.Load(); reader != nil {
		return (*reader).AnyMatches(ctx, namespace, selector)
	}
	return false, ErrNotReady
}

// Children implements Reader.
func (d *Deferred) Children(ctx context.Context, prefix *ipam.Prefix) (int64, error) {
	if reader := d.reader.Load(); reader != nil {
		return (*reader).Children(ctx, prefix)
	}
	return 0, ErrNotReady
}

// Holder implements Reader.
func (d *Deferred) Holder(ctx context.Context, parent *ipam.Prefix, prefix netip.Prefix, namespace string) (netip.Prefix, string, error) {
	if reader := d.reader.Load(); reader != nil {
		return (*reader).Holder(ctx, parent, prefix, namespace)
	}
	return netip.Prefix{}, "", ErrNotReady
}

// Shared implements Reader.
func (d *Deferred) Shared(ctx context.Context, prefix *ipam.Prefix, namespace string) (bool, error) {
	if reader := d.reader.Load(); reader != nil {
		return (*reader).Shared(ctx, prefix, namespace)
	}
	return false, ErrNotReady
}

// Set sets the reader to which all calls are delegated.
func (d *Deferred) Set(reader Reader) { d.reader.Store(&reader) }

// Prefix implements Reader.
func (d *Deferred) Prefix(ctx context.Context, namespace, name string, live bool) (*ipam.Prefix, error) {
	if reader := d.reader.Load(); reader != nil {
		return (*reader).Prefix(ctx, namespace, name, live)
	}
	return nil, ErrNotReady
}

// RootsOverlapping implements Reader.
func (d *Deferred) RootsOverlapping(ctx context.Context, namespace string, prefix netip.Prefix) ([]ipam.Prefix, error) {
	if reader := d.reader.Load(); reader != nil {
		return (*reader).RootsOverlapping(ctx, namespace, prefix)
	}
	return nil, ErrNotReady
}

// Objections returns the errors of check for a Prefix. It first checks the cached Prefix, which is usually enough. If
// that gives errors, the cache may be stale, so Objections checks the Prefix in etcd as well and returns the errors of
// that check. It returns no errors if the Prefix does not exist or cannot be read.
func Objections(ctx context.Context, reader Reader, namespace, name string, check func(*ipam.Prefix) field.ErrorList) field.ErrorList {
	var errs field.ErrorList
	for _, live := range []bool{false, true} {
		prefix, err := reader.Prefix(ctx, namespace, name, live)
		if err != nil {
			klog.FromContext(ctx).Error(err, "Skipped an admission check: cannot read the Prefix", "prefix", klog.KRef(namespace, name))
			return nil
		}
		if prefix == nil {
			return nil
		}
		if errs = check(prefix); len(errs) == 0 {
			return nil
		}
	}
	return errs
}
