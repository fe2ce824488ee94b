package etcd

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/zerohop/zerohop/internal/etcdapi"
)

const (
	authenticate = "/etcdserverpb.Auth/Authenticate"
	// deniedTime is how long all callers share the answer that the password is wrong: hundreds of watches would keep
	// etcd busy with it.
	deniedTime = time.Second
)

// authenticator gives requests a token, which it gets with the first one and again when etcd no longer takes it.
type authenticator struct {
	username, password string

	turn   chan struct{} // holds a value while somebody gets a token; guards all below
	token  string
	none   bool // etcd has authentication switched off
	denied error
	at     time.Time // of denied
}

func (a *authenticator) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	if method == authenticate {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	for stale, second := "", false; ; second = true {
		token, err := a.get(ctx, stale, second, cc)
		if err != nil {
			return err
		}
		err = invoke(attach(ctx, token), method, req, reply, cc, opts...)
		// Such a request was not carried out, so it is safe to repeat.
		if second || !forgotten(err) {
			return err
		}
		stale = token
	}
}

func (a *authenticator) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	token, err := a.get(ctx, "", false, cc)
	if err != nil {
		return nil, err
	}
	return open(attach(ctx, token), desc, cc, method, opts...)
}

func attach(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}

// forgotten reports whether err is what etcd answers to a token that it does not know, or no longer takes.
func forgotten(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision) || errors.Is(err, rpctypes.ErrUserEmpty)
}

// get returns a token, another one than stale if renew is set. Only one caller asks etcd, which takes a tenth of a second
// for each answer on purpose; the others wait.
func (a *authenticator) get(ctx context.Context, stale string, renew bool, cc *grpc.ClientConn) (string, error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	known := a.token != "" || a.none
	if known && !(renew && a.token == stale) {
		return a.token, nil
	}
	if a.denied != nil && time.Since(a.at) < deniedTime {
		return "", a.denied
	}
	resp, err := pb.NewAuthClient(cc).Authenticate(ctx, &pb.AuthenticateRequest{Name: a.username, Password: a.password}, etcdapi.CallOptions()...)
	switch {
	case err == nil:
		a.token, a.none = resp.Token, false
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled):
		a.token, a.none = "", true
	default:
		a.denied = nil
		if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthFailed) {
			a.denied, a.at = err, time.Now()
		}
		return "", err
	}
	a.denied = nil
	return a.token, nil
}
