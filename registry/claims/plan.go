// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"errors"

	"github.com/ironcore-dev/ipam-apiserver/apis/ipam"
	"github.com/ironcore-dev/ipam-apiserver/pkg/cidr"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.opentelemetry.io/otel/attribute"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-base/tracing"
)

// Plan is what a write adds to its etcd transaction. All of it happens with the write, or nothing. The zero Plan adds
// nothing.
type Plan struct {
	// Guards must hold for the transaction to succeed.
	Guards []Guard
	// then are operations that the transaction performs besides the write.
	then []clientv3.Op
	// committed, if set, is called after the transaction succeeded, with its revision.
	committed func(revision int64)
	// unlock, if set, releases the lock that the plan holds. It may be called more than once.
	unlock func()
}

// Set releases the lock that the plan holds and replaces the plan by next.
func (p *Plan) Set(next Plan) {
	if p.unlock != nil {
		p.unlock()
	}
	*p = next
}

// Guard is a compare of a transaction, and the keys that it compares.
type Guard struct {
	// Compare is the compare.
	Compare clientv3.Cmp
	// keys is a range, or a single key if its end is empty.
	keys Range
	// failed, if set, returns the error of a write whose transaction failed. kv is the first of the keys, read after that, or
	// nil if there is none. The error is nil if the guard was not the reason. errStale means that a new plan may succeed,
	// which is also the error if no guard knows the reason.
	failed func(kv *mvccpb.KeyValue) error
}

// orFail returns the guard with the error of a write that fails because of it. See Guard.failed.
func (g Guard) orFail(failed func(kv *mvccpb.KeyValue) error) Guard {
	g.failed = failed
	return g
}

// question returns the read that shows whether a guard failed. It is not in the Else branch of the transaction: etcd
// would encode, propose and check it each time, although it is rarely needed.
func (g Guard) question() clientv3.Op {
	if g.keys.End == "" {
		return clientv3.OpGet(g.keys.Start, clientv3.WithKeysOnly())
	}
	return clientv3.OpGet(g.keys.Start, clientv3.WithRange(g.keys.End), clientv3.WithLimit(1))
}

// errStale means that the state on which a plan is based has changed. A new plan may succeed.
var errStale = errors.New("claims: the plan is stale")

// MaxTxnOps is the number of compares, and of operations, that etcd accepts in a transaction.
const MaxTxnOps = cidr.MaxTxnOps

// maxPlans is how often a write is planned at most. A plan becomes stale only when a concurrent write commits, so
// each new attempt means that another write succeeded.
const maxPlans = 10

type planKey struct{}

// WithPlan calls write with an empty plan, which write sets before it writes. The context carries the plan to the
// transaction. WithPlan calls write again while the plan is stale, at most maxPlans times in all, and then returns a
// ServerTimeout error. In the first call live is false, and the plan may be made from cached data.
func WithPlan(ctx context.Context, write func(ctx context.Context, p *Plan, live bool) error) error {
	for n := range maxPlans {
		p := &Plan{}
		err := write(context.WithValue(ctx, planKey{}, p), p, n > 0)
		p.Set(Plan{})
		if !errors.Is(err, errStale) {
			return err
		}
	}
	return apierrors.NewServerTimeout(ipam.Resource("prefixes"), "write", 1)
}

// transactor replaces the Kubernetes interface of an etcd client, through which the etcd store writes. It adds the
// plan in the context to the transaction of a write.
type transactor struct {
	kubernetes.Interface
	kv clientv3.KV
}

// NewTransactor returns the Kubernetes interface of an etcd client that performs each write and the plan of WithPlan in
// one transaction.
func NewTransactor(client *kubernetes.Client) kubernetes.Interface {
	return &transactor{Interface: client.Kubernetes, kv: client.KV}
}

// OptimisticPut implements kubernetes.Interface.
func (t *transactor) OptimisticPut(ctx context.Context, key string, value []byte, expectedRevision int64, opts kubernetes.PutOptions) (kubernetes.PutResponse, error) {
	p, ok := ctx.Value(planKey{}).(*Plan)
	if !ok || p.empty() {
		return t.Interface.OptimisticPut(ctx, key, value, expectedRevision, opts)
	}
	response, kv, err := t.commit(ctx, p, key, expectedRevision, clientv3.OpPut(key, string(value), clientv3.WithLease(opts.LeaseID)))
	if err != nil {
		return kubernetes.PutResponse{}, err
	}
	return kubernetes.PutResponse{Succeeded: response.Succeeded, Revision: response.Header.Revision, KV: kv}, nil
}

// OptimisticDelete implements kubernetes.Interface.
func (t *transactor) OptimisticDelete(ctx context.Context, key string, expectedRevision int64, opts kubernetes.DeleteOptions) (kubernetes.DeleteResponse, error) {
	p, ok := ctx.Value(planKey{}).(*Plan)
	if !ok || p.empty() {
		return t.Interface.OptimisticDelete(ctx, key, expectedRevision, opts)
	}
	response, kv, err := t.commit(ctx, p, key, expectedRevision, clientv3.OpDelete(key))
	if err != nil {
		return kubernetes.DeleteResponse{}, err
	}
	return kubernetes.DeleteResponse{Succeeded: response.Succeeded, Revision: response.Header.Revision, KV: kv}, nil
}

func (p *Plan) empty() bool { return len(p.Guards) == 0 && len(p.then) == 0 }

// commit performs a write and its plan in one transaction. If the object itself has changed, commit returns the
// object as it is now, and the etcd store retries. If only a guard failed, commit returns an error. It must not
// report an unsuccessful write then: the etcd store would retry forever.
func (t *transactor) commit(ctx context.Context, p *Plan, key string, expectedRevision int64, write clientv3.Op) (*clientv3.TxnResponse, *mvccpb.KeyValue, error) {
	ctx, span := tracing.Start(ctx, spanTransaction, attribute.String("key", key))
	defer span.End(slow)
	compares := append([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", expectedRevision)}, p.compares()...)
	response, err := t.kv.Txn(ctx).If(compares...).Then(append([]clientv3.Op{write}, p.then...)...).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return nil, nil, err
	}
	if response.Succeeded {
		if p.committed != nil {
			p.committed(response.Header.Revision)
		}
		return response, nil, nil
	}
	kv, revision := first(answersOf(response)[0]), int64(0)
	if kv != nil {
		revision = kv.ModRevision
	}
	if revision != expectedRevision {
		return response, kv, nil
	}
	return nil, nil, p.why(ctx, t.kv)
}

// compares returns the compares of all guards.
func (p *Plan) compares() []clientv3.Cmp {
	compares := make([]clientv3.Cmp, 0, len(p.Guards))
	for _, g := range p.Guards {
		compares = append(compares, g.Compare)
	}
	return compares
}

// why returns the error for Guards that did not hold: that of the first one which knows an error. It asks their questions
// now. If the state has changed again since the transaction, the error is errStale.
func (p *Plan) why(ctx context.Context, kv clientv3.KV) error {
	var asked []Guard
	var questions []clientv3.Op
	for _, g := range p.Guards {
		if g.failed != nil {
			asked, questions = append(asked, g), append(questions, g.question())
		}
	}
	if len(asked) == 0 {
		return errStale
	}
	response, err := kv.Txn(ctx).Then(questions...).Commit()
	if err != nil {
		return err
	}
	for i, answer := range answersOf(response) {
		if err := asked[i].failed(first(answer)); err != nil {
			return err
		}
	}
	return errStale
}

func answersOf(response *clientv3.TxnResponse) []*pb.RangeResponse {
	answers := make([]*pb.RangeResponse, 0, len(response.Responses))
	for _, r := range response.Responses {
		answers = append(answers, r.GetResponseRange())
	}
	return answers
}

func first(answer *pb.RangeResponse) *mvccpb.KeyValue {
	if answer == nil || len(answer.Kvs) == 0 {
		return nil
	}
	return answer.Kvs[0]
}

// IsEmpty requires that a range has no key. A transaction has up to about thirty of these guards, so this function
// builds the compare in place: clientv3.Compare and WithRange would copy it.
func IsEmpty(r Range) Guard {
	compare := clientv3.CreateRevision(r.Start)
	c := compare.GetCompare()
	c.Result, c.TargetUnion, c.RangeEnd = pb.Compare_EQUAL, &pb.Compare_CreateRevision{}, []byte(r.End)
	return Guard{Compare: compare, keys: r}
}

// IsSame requires that a key has this create revision. It does not if it was deleted and created again.
func IsSame(key string, createRevision int64) Guard {
	return Guard{Compare: clientv3.Compare(clientv3.CreateRevision(key), "=", createRevision), keys: Range{Start: key}}
}

// IsUnchanged requires that a key has this mod revision. 0 requires that the key does not exist.
func IsUnchanged(key string, modRevision int64) Guard {
	return Guard{Compare: clientv3.Compare(clientv3.ModRevision(key), "=", modRevision), keys: Range{Start: key}}
}
