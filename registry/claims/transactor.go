// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// plan is what a write has to do besides: all of it happens with the write, or none.
type plan struct {
	// guards have to hold.
	guards []guard
	// then is done with the write.
	then []clientv3.Op
	// explain tells why the guards did not hold, from what their questions find afterwards, in their
	// order. errStale means that a plan that is made anew may do, which is also what it means that
	// there is no explain.
	explain func(answers []*pb.RangeResponse) error
	// committed, if there is one, takes in at what revision all of it has happened.
	committed func(revision int64)
	// release, if there is one, releases what the plan holds. It may be called again.
	release func()
}

// set makes it another plan, and releases what it held.
func (p *plan) set(next plan) {
	if p.release != nil {
		p.release()
	}
	*p = next
}

// guard is a compare, and what it is about.
type guard struct {
	compare clientv3.Cmp
	// keys are one key, with no end, or a range.
	keys keyRange
}

// question is the read that tells why a guard failed. It is not part of the transaction: it would have to
// be encoded, proposed and checked with each, and is hardly ever needed.
func (g guard) question() clientv3.Op {
	if g.keys.end == "" {
		return clientv3.OpGet(g.keys.start, clientv3.WithKeysOnly())
	}
	return clientv3.OpGet(g.keys.start, clientv3.WithRange(g.keys.end), clientv3.WithLimit(1))
}

// errStale means that the plan was made on what is no longer so.
var errStale = errors.New("claims: the plan is stale")

// maxTxnOps is how many compares etcd takes in a transaction, unless it was told otherwise by
// --max-txn-ops.
const maxTxnOps = 128

type planKey struct{}

// withPlan hands a plan down to the transactor. It may be filled in until the write.
func withPlan(ctx context.Context, p *plan) context.Context {
	return context.WithValue(ctx, planKey{}, p)
}

// transactor stands in for the Kubernetes interface of an etcd client, through which the etcd store
// writes. It joins the plan of a write to it.
type transactor struct {
	kubernetes.Interface
	kv clientv3.KV
}

// OptimisticPut implements kubernetes.Interface.
func (t *transactor) OptimisticPut(ctx context.Context, key string, value []byte, expectedRevision int64, opts kubernetes.PutOptions) (kubernetes.PutResponse, error) {
	p, ok := ctx.Value(planKey{}).(*plan)
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
	p, ok := ctx.Value(planKey{}).(*plan)
	if !ok || p.empty() {
		return t.Interface.OptimisticDelete(ctx, key, expectedRevision, opts)
	}
	response, kv, err := t.commit(ctx, p, key, expectedRevision, clientv3.OpDelete(key))
	if err != nil {
		return kubernetes.DeleteResponse{}, err
	}
	return kubernetes.DeleteResponse{Succeeded: response.Succeeded, Revision: response.Header.Revision, KV: kv}, nil
}

func (p *plan) empty() bool { return len(p.guards) == 0 && len(p.then) == 0 }

// commit does a write and its plan in one transaction. If the object itself was changed meanwhile,
// it returns it as it is now. If not, but the guards of the plan do not hold, it returns why: to
// say that the write did not succeed would have the etcd store try it again for ever.
func (t *transactor) commit(ctx context.Context, p *plan, key string, expectedRevision int64, write clientv3.Op) (*clientv3.TxnResponse, *mvccpb.KeyValue, error) {
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

// compares is what a transaction has to compare.
func (p *plan) compares() []clientv3.Cmp {
	compares := make([]clientv3.Cmp, 0, len(p.guards))
	for _, g := range p.guards {
		compares = append(compares, g.compare)
	}
	return compares
}

// why tells why the guards did not hold. What it finds may have changed since: then the plan is stale.
func (p *plan) why(ctx context.Context, kv clientv3.KV) error {
	if p.explain == nil {
		return errStale
	}
	questions := make([]clientv3.Op, 0, len(p.guards))
	for _, g := range p.guards {
		questions = append(questions, g.question())
	}
	response, err := kv.Txn(ctx).Then(questions...).Commit()
	if err != nil {
		return err
	}
	return p.explain(answersOf(response))
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

// isEmpty guards that there is no key in a range. There are up to thirty of them in a transaction, so this is
// clientv3.Compare without the copies that it and WithRange make of what they get.
func isEmpty(r keyRange) guard {
	compare := clientv3.CreateRevision(r.start)
	c := compare.GetCompare()
	c.Result, c.TargetUnion, c.RangeEnd = pb.Compare_EQUAL, &pb.Compare_CreateRevision{}, []byte(r.end)
	return guard{compare, r}
}

// isSame guards that a key is the one that was created at a revision.
func isSame(key string, createRevision int64) guard {
	return guard{clientv3.Compare(clientv3.CreateRevision(key), "=", createRevision), keyRange{start: key}}
}

// isUnchanged guards that a key was last changed at a revision; 0 means that there is no such key.
func isUnchanged(key string, modRevision int64) guard {
	return guard{clientv3.Compare(clientv3.ModRevision(key), "=", modRevision), keyRange{start: key}}
}
