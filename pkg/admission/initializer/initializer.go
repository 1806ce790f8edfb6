// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

// Package initializer gives the admission plugins what they read Prefixes with, and tells the storage
// what they want it to enforce.
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

// Reader reads Prefixes. What it returns is shared and must not be changed.
type Reader interface {
	// Prefix returns a Prefix, or nil if there is none. Unless live, it comes from memory, and may be
	// the Prefix of a moment ago.
	Prefix(ctx context.Context, namespace, name string, live bool) (*ipam.Prefix, error)
	// RootsOverlapping returns the roots of a namespace that overlap a prefix, from memory.
	RootsOverlapping(ctx context.Context, namespace string, prefix netip.Prefix) ([]ipam.Prefix, error)
	// AnyMatches reports whether there is a Prefix in a namespace that a selector matches, from memory.
	AnyMatches(ctx context.Context, namespace string, selector labels.Selector) (bool, error)
	// Children returns how many prefixes are allocated from a Prefix.
	Children(ctx context.Context, prefix *ipam.Prefix) (int64, error)
	// Holder returns a prefix that is allocated from a parent and overlaps another one, and names who
	// holds it. The prefix is not valid if there is none.
	Holder(ctx context.Context, parent *ipam.Prefix, prefix netip.Prefix) (held netip.Prefix, by string, err error)
	// Checkable reports whether the storage can check, in one transaction, that a prefix is free in a
	// parent. It says so for a child, or else for a PrefixAllocation of nobody.
	Checkable(parent, prefix netip.Prefix, forChild bool) bool
}

// Enforced is what the storage has to enforce. A plugin checks a request before it is written, so it
// cannot know what others write at the same time.
type Enforced struct {
	// DisjointRoots refuses new roots that overlap another root of their namespace.
	DisjointRoots bool
}

// WantsEnforced is a plugin that wants the storage to enforce something.
type WantsEnforced interface {
	// SetEnforced is called once the plugin is configured. It sets what the plugin wants.
	SetEnforced(*Enforced)
}

// WantsReader is a plugin that reads Prefixes.
type WantsReader interface {
	SetReader(Reader)
}

// WithReader is what a plugin embeds that reads Prefixes, and does not work without.
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

// New returns what gives the reader to the plugins that want one, and to the quota what it counts. It
// fills in what the plugins want the storage to enforce.
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
		// A resource that has no evaluator is counted, as count/prefixes.ipam.ironcore.dev.
		wants.SetQuotaConfiguration(quota.NewConfiguration(nil, nil))
	}
}

// ErrNotReady means that there is nothing to read from yet.
var ErrNotReady = errors.New("the storage is not ready yet")

// Deferred is a Reader that is not ready until it is set: plugins are made before the storage.
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
func (d *Deferred) Holder(ctx context.Context, parent *ipam.Prefix, prefix netip.Prefix) (netip.Prefix, string, error) {
	if reader := d.reader.Load(); reader != nil {
		return (*reader).Holder(ctx, parent, prefix)
	}
	return netip.Prefix{}, "", ErrNotReady
}

// Checkable implements Reader.
func (d *Deferred) Checkable(parent, prefix netip.Prefix, forChild bool) bool {
	reader := d.reader.Load()
	return reader == nil || (*reader).Checkable(parent, prefix, forChild)
}

// Set makes it ready.
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

// Objections returns what the check has against a Prefix. The Prefix is read from memory, where
// mostly there is nothing against it. If there is, it has to be so in the store too: memory may be
// behind. Nobody is refused for a Prefix that does not exist or cannot be read.
func Objections(ctx context.Context, reader Reader, namespace, name string, check func(*ipam.Prefix) field.ErrorList) field.ErrorList {
	var errs field.ErrorList
	for _, live := range []bool{false, true} {
		prefix, err := reader.Prefix(ctx, namespace, name, live)
		if err != nil {
			klog.FromContext(ctx).Error(err, "Cannot read a Prefix, so admission does without it", "prefix", klog.KRef(namespace, name))
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
