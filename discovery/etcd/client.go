package etcd

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/zerohop/zerohop/internal/etcdapi"
)

const (
	// keepAliveTime and keepAliveTimeout find a connection that died without a word within 25 s, so that a new one is made
	// for the requests that follow. Servers end connections with pings more often than every 5 s.
	keepAliveTime    = 15 * time.Second
	keepAliveTimeout = 10 * time.Second
	// connectTime is how long a connection may take. A frozen server accepts connections and says nothing; by
	// default gRPC gives it 20 s.
	connectTime = 5 * time.Second
)

// redial makes gRPC try to connect at least every 1.2 s: its default is 2 min at the end, for which a server that is back
// would go unnoticed.
var redial = backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// NewClient returns clientv3.New(config) with what it lacks for discovery. Fields that are set stay as they are:
//
//   - A server that is back is reached within 1.2 s, a connection that died without a word is left after 25 s.
//   - Answers are cut off at 16 MiB (MaxCallRecvMsgSize), requests are not repeated behind the back of the caller
//     (MaxUnaryRetries), and errors are returned and not written to standard error (Logger).
//   - It does not wait for etcd, even with a Username: clientv3.New fails then if etcd is down, and so would the start
//     of a program. The first request gets the token, and a later one another when etcd has forgotten it.
//     The fields Username and Password of the client are empty.
func NewClient(config clientv3.Config) (*clientv3.Client, error) {
	config.DialKeepAliveTime = cmp.Or(config.DialKeepAliveTime, keepAliveTime)
	config.DialKeepAliveTimeout = cmp.Or(config.DialKeepAliveTimeout, keepAliveTimeout)
	config.MaxCallRecvMsgSize = cmp.Or(config.MaxCallRecvMsgSize, max(etcdapi.MaxAnswer, config.MaxCallSendMsgSize))
	config.MaxUnaryRetries = cmp.Or(config.MaxUnaryRetries, 1)
	if config.Logger == nil && config.LogConfig == nil {
		config.Logger = zap.NewNop()
	}
	options := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial, MinConnectTimeout: connectTime})}
	if config.Username != "" && config.Password != "" {
		a := &authenticator{username: config.Username, password: config.Password, turn: make(chan struct{}, 1)}
		config.Username, config.Password = "", ""
		options = append(options, grpc.WithChainUnaryInterceptor(a.unary), grpc.WithChainStreamInterceptor(a.stream))
	}
	config.DialOptions = slices.Concat(options, config.DialOptions)
	client, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("etcd: client for %s: %w", etcdapi.Spell(config.Endpoints), err)
	}
	return client, nil
}
