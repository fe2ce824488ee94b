package etcdapi

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// AnswerTime is how long a request may take. A server that has lost its leader answers after 7 s; a shorter bound
	// would turn that answer into a time-out.
	AnswerTime = 10 * time.Second
	// ReadyTime is how long a request waits for a connection. Ten times less would fail requests that a new
	// connection is about to carry, ten times more would hide an outage from whoever watches the age of a set.
	ReadyTime = 3 * time.Second
	// MaxAnswer bounds a message of the server. 100,000 instances at the 150 bytes they have at least fit; more does
	// not fill the memory of every client.
	MaxAnswer = 16 << 20
)

// Target is the etcd that a client talks to. Its requests go past the methods of clientv3.Client, which repeat
// what fails as long as the context lasts and tell nobody.
type Target struct {
	Conn  *grpc.ClientConn
	addrs string // for errors
}

// TargetOf returns the target of client, which is the field Client of where.
func TargetOf(client *clientv3.Client, where string) (Target, error) {
	if client == nil {
		return Target{}, fmt.Errorf("etcd: %s.Client is nil", where)
	}
	conn := client.ActiveConnection()
	if conn == nil {
		return Target{}, fmt.Errorf("etcd: %s.Client has no connection: it must come from NewClient or clientv3.New", where)
	}
	return Target{Conn: conn, addrs: Spell(client.Endpoints())}, nil
}

// Spell returns the addresses of endpoints without what is not for logs.
func Spell(endpoints []string) string {
	const most = 5
	var list []string
	for i, endpoint := range endpoints {
		if i == most {
			list = append(list, "...")
			break
		}
		if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
			endpoint = u.Host
		}
		list = append(list, endpoint)
	}
	return strings.Join(list, ",")
}

// CallOptions bound each answer, whatever the client was made with.
func CallOptions() []grpc.CallOption {
	return []grpc.CallOption{grpc.WaitForReady(false), grpc.MaxCallRecvMsgSize(MaxAnswer)}
}

// Call makes one request, which ends after limit. Its error names what was asked and the addresses of the servers; it is
// ctx.Err() if ctx ended, and a *discovery.RefusedError if a server answered and refused.
func (t Target) Call(ctx context.Context, what string, limit time.Duration, do func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t.await(bounded)
	err := do(bounded)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case bounded.Err() != nil:
		err = fmt.Errorf("no answer within %v: %w", limit, bounded.Err())
	}
	return t.explain(what, err)
}

// await waits until there is a connection, at most ReadyTime. gRPC makes it by itself and would fail requests in
// the meantime; with its own option to wait it says in the end only that the time is over, and not why.
func (t Target) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ReadyTime)
	defer cancel()
	t.Conn.Connect()
	for state := t.Conn.GetState(); state != connectivity.Ready; state = t.Conn.GetState() {
		if state == connectivity.Shutdown || !t.Conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// explain says what was asked of whom. A refusal becomes a *discovery.RefusedError.
func (t Target) explain(what string, err error) error {
	if _, ok := status.FromError(err); !ok {
		return fmt.Errorf("etcd: %s at %s: %w", what, t.addrs, err)
	}
	answer := &answerError{err: rpctypes.Error(err), code: status.Code(err)}
	err = fmt.Errorf("etcd: %s at %s: %w", what, t.addrs, answer)
	denied := answer.denied()
	if denied || answer.code == codes.ResourceExhausted || answer.code == codes.Unimplemented {
		return &discovery.RefusedError{Denied: denied, Err: err}
	}
	return err
}

// answerError is an error that the server or gRPC answered with.
type answerError struct {
	err  error // one of package rpctypes, or as it came
	code codes.Code
}

// Error quotes the text, cut: it comes from outside and ends in logs.
func (e *answerError) Error() string {
	const most = 300
	text := rpctypes.ErrorDesc(e.err)
	if known, ok := errors.AsType[rpctypes.EtcdError](e.err); ok {
		text = known.Error()
	}
	if len(text) > most {
		text = text[:most] + "..."
	}
	return fmt.Sprintf("%v: %q", e.code, text)
}

// Unwrap returns the error of package rpctypes.
func (e *answerError) Unwrap() error { return e.err }

// denied reports whether the server knows who asks and says no, or does not want to know.
func (e *answerError) denied() bool {
	if e.code == codes.PermissionDenied || e.code == codes.Unauthenticated {
		return true
	}
	for _, known := range []error{
		rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound, rpctypes.ErrAuthOldRevision, rpctypes.ErrInvalidAuthMgmt,
	} {
		if errors.Is(e.err, known) {
			return true
		}
	}
	return false
}

// reasonOf returns the reason for which a server ended a watch as an error with a code. Some servers print that in full
// (rpc error: code = ... desc = ...) and some only the last part.
func reasonOf(text string) error {
	if _, desc, ok := strings.Cut(text, "desc = "); ok {
		text = desc
	}
	known := status.Error(codes.Unknown, text)
	if err, ok := errors.AsType[rpctypes.EtcdError](rpctypes.Error(known)); ok {
		return status.Error(err.Code(), text)
	}
	return known
}
