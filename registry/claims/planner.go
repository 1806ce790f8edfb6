// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/component-base/tracing"
	"k8s.io/utils/lru"
)

// Planner plans the checks and the changes of claims that a write of a Prefix or PrefixAllocation needs, and answers
// questions about claims. It is made in three steps, because the storages plan their writes with it and it reads from them:
//
//	planner := NewPlanner(...)
//	make the storage of each kind, which plans with it
//	planner.SetSources(Sources{...})
//
// After that it is safe for concurrent use. Before, a write panics.
type Planner struct {
	*Etcd
	// sources are nil until SetSources is called.
	sources *Sources
	// namespaceLabels returns the labels of a namespace. It is nil if there are no namespaces.
	namespaceLabels NamespaceLabels
	// createdAt caches the etcd create revision of allocated Prefixes by uid. It never changes, and only etcd has
	// it: objects in the watch cache do not carry it.
	createdAt *lru.Cache
	// writtenClaims caches the claims that this server wrote, by key.
	writtenClaims *lru.Cache
	// disjointRoots forbids a new root that overlaps another root of its namespace.
	disjointRoots bool
	// rootLocks has a lock for each namespace. It is held while a root is created there.
	rootLocks keyLocks
	// now is the clock.
	now func() time.Time
}

const (
	// maxCreated is the capacity of createdAt, in parents.
	maxCreated = 100_000
	// maxWritten is the capacity of writtenClaims, in claims. A claim is needed only until its child is Allocated, which
	// is soon.
	maxWritten = 10_000
)

// writtenClaim is a claim that this server wrote, and the etcd revision of that write.
type writtenClaim struct {
	revision int64
	claim    Claim
}

// NewPlanner returns the planner for what is stored in etcd. disjointRoots forbids a new root that overlaps another root of its
// namespace. namespaceLabels is nil if there are no namespaces.
func NewPlanner(etcd *Etcd, disjointRoots bool, namespaceLabels NamespaceLabels) *Planner {
	return &Planner{
		Etcd: etcd, disjointRoots: disjointRoots, namespaceLabels: namespaceLabels,
		createdAt: lru.New(maxCreated), writtenClaims: lru.New(maxWritten), now: time.Now,
	}
}

// Sources are what a planner reads from besides etcd. All of them must be set.
type Sources struct {
	// Prefixes is the storage of Prefixes, with its watch cache if that is enabled. It may be stale.
	Prefixes storage.Interface
	// Attributes returns the labels and selectable fields of a Prefix.
	Attributes storage.AttrFunc
	// Policies is the storage of PrefixPolicies, with its watch cache if that is enabled.
	Policies storage.Interface
	// CoolDown finds the coolDown of a parent.
	CoolDown CoolDown
}

// SetSources sets the sources. It is called once, before the first write. It panics if one of them is missing.
func (pl *Planner) SetSources(sources Sources) {
	if sources.Prefixes == nil || sources.Attributes == nil || sources.Policies == nil || sources.CoolDown == nil {
		panic("claims: Planner.SetSources needs all of the Sources")
	}
	pl.sources = &sources
}

// mustSources returns the sources. It panics if there are none yet, which is a mistake in the construction of the server.
func (pl *Planner) mustSources() *Sources {
	if pl.sources == nil {
		panic("claims: Planner.SetSources must be called before the first write")
	}
	return pl.sources
}

// Names of spans in the trace of a request.
const (
	spanPlan        = "Plan claims"
	spanTransaction = "Commit claims"
)

// slow is how long a span takes at least that is written to the log, as in k8s.io/apiserver.
const slow = 500 * time.Millisecond

type parentUIDKey struct{}

// WithParentUID returns a context for writing an object whose parent must have this uid. The write fails with a
// Conflict if the parent was deleted and created again under the same name. If uid is empty, nothing is required.
func WithParentUID(ctx context.Context, uid types.UID) context.Context {
	if uid == "" {
		return ctx
	}
	return context.WithValue(ctx, parentUIDKey{}, uid)
}

// PlanUpdate plans an update from oldObj to newObj. For a create, oldObj is nil or an empty object. Unless live is set,
// the plan may be made from data that is stale.
func (pl *Planner) PlanUpdate(ctx context.Context, live bool, oldObj, newObj runtime.Object) (Plan, error) {
	ctx, span := tracing.Start(ctx, spanPlan)
	defer span.End(slow)
	r := pl.reader(live)
	switch newObj := newObj.(type) {
	case *ipam.PrefixAllocation:
		oldAllocation, _ := oldObj.(*ipam.PrefixAllocation)
		was := oldAllocation != nil && oldAllocation.Status.Phase == ipam.PrefixAllocationPhaseAllocated
		is := newObj.Status.Phase == ipam.PrefixAllocationPhaseAllocated
		switch {
		case !was && is:
			return pl.planBindAllocation(ctx, r, newObj)
		case was && (!is || !cidr.Equal(oldAllocation.Status.Prefix, newObj.Status.Prefix) || !sameRef(oldAllocation.Spec.PrefixRef, newObj.Spec.PrefixRef) || oldAllocation.NamespaceOfParent() != newObj.NamespaceOfParent()):
			// Validation already refuses this today. This check does not rely on it.
			return Plan{}, conflict("prefixallocations", newObj.Name, fmt.Errorf("%s is allocated to it, which is final", oldAllocation.Status.Prefix))
		case was:
			plan, err := pl.planUpdateAllocated(ctx, newObj, oldAllocation)
			if err != nil {
				return Plan{}, err
			}
			return plan, pl.checkParentUID(ctx, "prefixallocations", newObj.NamespaceOfParent(), newObj.Name, newObj.Spec.PrefixRef)
		}
		return Plan{}, nil
	case *ipam.Prefix:
		oldPrefix, _ := oldObj.(*ipam.Prefix)
		was := oldPrefix != nil && oldPrefix.Status.Phase == ipam.PrefixPhaseAllocated
		is := newObj.Status.Phase == ipam.PrefixPhaseAllocated
		switch {
		case isNew(oldPrefix) && newObj.Spec.IsRoot():
			return pl.planRoot(ctx, newObj)
		case !was && is && !newObj.Spec.IsRoot():
			return pl.planBindChild(ctx, r, newObj)
		case was && (!is || !cidr.Equal(oldPrefix.Spec.Prefix, newObj.Spec.Prefix) || !sameRef(oldPrefix.Spec.ParentRef, newObj.Spec.ParentRef) || oldPrefix.NamespaceOfParent() != newObj.NamespaceOfParent()):
			return Plan{}, conflict("prefixes", newObj.Name, fmt.Errorf("it is allocated as %s, which is final", oldPrefix.Spec.Prefix))
		case was:
			return Plan{}, pl.checkParentUID(ctx, "prefixes", newObj.NamespaceOfParent(), newObj.Name, newObj.Spec.ParentRef)
		}
		return Plan{}, nil
	case *ipam.PrefixPolicy:
		return Plan{}, nil
	}
	return Plan{}, fmt.Errorf("claims: not of this API group: %T", newObj)
}

// checkParentUID checks the uid of WithParentUID for an object that is allocated already, for instance when a
// binding is sent twice. namespace is that of the parent.
func (pl *Planner) checkParentUID(ctx context.Context, resource, namespace, name string, ref *ipam.LocalObjectReference) error {
	wanted, demanded := ctx.Value(parentUIDKey{}).(types.UID)
	if !demanded || ref == nil {
		return nil
	}
	p, err := cached{pl}.parent(ctx, namespace, ref.Name)
	if err != nil {
		return err
	}
	if p == nil || p.uid != wanted {
		return conflict(resource, name, fmt.Errorf("it is allocated from another Prefix %s than the one with uid %s", ref.Name, wanted))
	}
	return nil
}

// PlanDelete plans the removal of an object. Unless live is set, the plan may be made from data that is stale.
func (pl *Planner) PlanDelete(ctx context.Context, live bool, obj runtime.Object) (Plan, error) {
	ctx, span := tracing.Start(ctx, spanPlan)
	defer span.End(slow)
	r := pl.reader(live)
	switch obj := obj.(type) {
	case *ipam.PrefixAllocation:
		return pl.planRelease(ctx, r, obj)
	case *ipam.Prefix:
		plan, err := pl.planDeletePrefix(ctx, obj)
		if err != nil || !obj.Spec.IsRoot() {
			return plan, err
		}
		return pl.planDeleteRoot(ctx, obj, plan)
	case *ipam.PrefixPolicy:
		return Plan{}, nil
	}
	return Plan{}, fmt.Errorf("claims: not of this API group: %T", obj)
}

// isNew reports whether a write creates the Prefix. old is nil in a create, and an empty object in an update that
// creates, such as server-side apply.
func isNew(old *ipam.Prefix) bool { return old == nil || old.UID == "" }

func sameRef(a, b *ipam.LocalObjectReference) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func conflict(resource, name string, err error) *apierrors.StatusError {
	return apierrors.NewConflict(ipam.Resource(resource), name, err)
}

// refusal is an error that refuses a write because of what was read. If that may be stale, the write is planned again with
// the current state.
type refusal struct{ error }

// isRefusal reports whether an error is a refusal.
func isRefusal(err error) bool { return errors.As(err, new(refusal)) }

// reasonOf returns the error that a refusal tells the client. It returns other errors as they are.
func reasonOf(err error) error {
	if r := (refusal{}); errors.As(err, &r) {
		return r.error
	}
	return err
}

// refused returns a refusal of an allocation with a Conflict.
func refused(allocation *ipam.PrefixAllocation, format string, args ...any) error {
	return refusal{conflict("prefixallocations", allocation.Name, fmt.Errorf(format, args...))}
}

// refusedPrefix returns a refusal of the status.prefix of an allocation.
func refusedPrefix(allocation *ipam.PrefixAllocation, format string, args ...any) error {
	return refusal{apierrors.NewInvalid(ipam.Kind("PrefixAllocation"), allocation.Name, field.ErrorList{
		field.Invalid(field.NewPath("status", "prefix"), allocation.Status.Prefix, fmt.Sprintf(format, args...)),
	})}
}
