// SPDX-FileCopyrightText: 2026 SAP SE or an SAP affiliate company and IronCore contributors
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// interceptor is called for a writing transaction and returns the response. It may call commit, at most once, to
// forward the transaction to etcd.
type interceptor func(txn *pb.TxnRequest, commit func() (*pb.TxnResponse, error)) (*pb.TxnResponse, error)

// errLost is the error that a client of etcd gets for a lost response.
var errLost = status.Error(codes.Unavailable, "the connection broke")

// proxy is a proxy between an API server and etcd. It forwards everything, and passes the transactions that write
// our objects to an interceptor.
type proxy struct {
	endpoint    string
	conn        *grpc.ClientConn
	interceptor atomic.Pointer[interceptor]
}

// startProxy starts a proxy in front of an etcd.
func startProxy(t testing.TB, dir, etcdEndpoint string) *proxy {
	t.Helper()
	socket := filepath.Join(dir, "proxy.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(etcdEndpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(passingCodec{}), grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{endpoint: "unix://" + socket, conn: conn}
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(passingCodec{}),
		grpc.UnknownServiceHandler(p.handle),
		grpc.MaxRecvMsgSize(math.MaxInt32),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		_ = conn.Close()
	})
	return p
}

// intercept sets the interceptor for all writing transactions from now on, or none if it is nil.
func (p *proxy) intercept(i interceptor) {
	if i == nil {
		p.interceptor.Store(nil)
		return
	}
	p.interceptor.Store(&i)
}

func (p *proxy) handle(_ any, client grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(client)
	if method == pb.KV_Txn_FullMethodName {
		return p.handleTxn(client)
	}
	ctx, cancel := context.WithCancel(passMetadata(client.Context()))
	defer cancel()
	server, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			m := &message{}
			if err := client.RecvMsg(m); errors.Is(err, io.EOF) {
				_ = server.CloseSend()
				return
			} else if err != nil || server.SendMsg(m) != nil {
				cancel()
				return
			}
		}
	}()
	for {
		m := &message{}
		if err := server.RecvMsg(m); errors.Is(err, io.EOF) {
			client.SetTrailer(server.Trailer())
			return nil
		} else if err != nil {
			return err
		}
		if err := client.SendMsg(m); err != nil {
			return err
		}
	}
}

func (p *proxy) handleTxn(client grpc.ServerStream) error {
	txn := &pb.TxnRequest{}
	if err := client.RecvMsg(txn); err != nil {
		return err
	}
	commit := func() (*pb.TxnResponse, error) {
		response := &pb.TxnResponse{}
		// A client that disconnects does not cancel its requests.
		return response, p.conn.Invoke(context.WithoutCancel(passMetadata(client.Context())), pb.KV_Txn_FullMethodName, txn, response)
	}
	var response *pb.TxnResponse
	var err error
	if i := p.interceptor.Load(); i != nil && len(written(txn)) > 0 {
		response, err = (*i)(txn, commit)
	} else {
		response, err = commit()
	}
	if err != nil {
		return err
	}
	return client.SendMsg(response)
}

func passMetadata(ctx context.Context) context.Context {
	md, _ := metadata.FromIncomingContext(ctx)
	return metadata.NewOutgoingContext(ctx, md)
}

// etcdPrefix is the prefix of the keys of all objects and claims.
const etcdPrefix = "/registry/ipam.ironcore.dev/"

// claimsPrefix is the prefix of the keys of claims.
const claimsPrefix = etcdPrefix + "claims/"

// written returns the keys of objects and claims that the transaction puts or deletes.
func written(txn *pb.TxnRequest) []string {
	var keys []string
	for _, op := range txn.Success {
		var key []byte
		if put := op.GetRequestPut(); put != nil {
			key = put.Key
		} else if del := op.GetRequestDeleteRange(); del != nil {
			key = del.Key
		}
		if strings.HasPrefix(string(key), etcdPrefix) {
			keys = append(keys, string(key))
		}
	}
	return keys
}

// message is a message that is forwarded unchanged.
type message struct{ data []byte }

// passingCodec does not decode a message, and encodes all other values like gRPC.
type passingCodec struct{}

var _ encoding.CodecV2 = passingCodec{}

func (passingCodec) Name() string { return "proto" }

func (passingCodec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*message); ok {
		return mem.BufferSlice{mem.SliceBuffer(m.data)}, nil
	}
	return encoding.GetCodecV2("proto").Marshal(v)
}

func (passingCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*message); ok {
		m.data = data.Materialize()
		return nil
	}
	return encoding.GetCodecV2("proto").Unmarshal(data, v)
}
