package healthcheck

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/zerohop/zerohop/discovery"
)

// Checker checks endpoints. It must be safe for concurrent use.
type Checker interface {
	// Check returns nil if the endpoint is well, and else why not. It returns soon after the context ends.
	Check(ctx context.Context, p Probe) error
}

// CheckerFunc is a function that is a Checker.
type CheckerFunc func(ctx context.Context, p Probe) error

// Check calls f.
func (f CheckerFunc) Check(ctx context.Context, p Probe) error { return f(ctx, p) }

// Probe is one check that is to be made.
type Probe struct {
	// Service is the name of the service that the endpoint is of, Endpoint what its source says of it.
	Service  string
	Endpoint discovery.Endpoint
	// Addr is where to check it, "host:port": the address of the endpoint, maybe with another port.
	Addr string
	// Protocol is that of the policy, for Checkers of several.
	Protocol string
	// Path, Host and Statuses say what to ask for by HTTP, in whose name, and which answers are good. Host may be empty,
	// which means Service.
	Path     string
	Host     string
	Statuses Statuses
	// ServerName is the name that TLS asks for and verifies, if not empty. It is never the address.
	ServerName string
	// GRPCService is the name to ask a gRPC health service for. Empty means the server as a whole.
	GRPCService string
	// DialControl refuses connections to addresses that the mesh refuses, as ControlContext of a net.Dialer. It may be nil.
	DialControl func(ctx context.Context, network, addr string, c syscall.RawConn) error
}

// TCP is a Checker that connects and closes the connection. It finds hosts that are down and ports that are closed. The
// kernel accepts connections on behalf of a process that hangs, so such a process passes.
type TCP struct{}

// Check connects to p.Addr.
func (TCP) Check(ctx context.Context, p Probe) error {
	conn, err := (&net.Dialer{ControlContext: p.DialControl}).DialContext(ctx, "tcp", p.Addr)
	if err != nil {
		return err
	}
	_ = conn.Close() // it was made, which is all that was asked
	return nil
}

// Statuses are the statuses of HTTP that are good, as ranges of which both ends are part. The zero value means 200 to 299.
type Statuses [][2]int

// ParseStatuses reads a list such as "200-299,404". Empty means the zero value.
func ParseStatuses(list string) (Statuses, error) {
	if list == "" {
		return nil, nil
	}
	var all Statuses
	for item := range strings.SplitSeq(list, ",") {
		low, high, ranged := strings.Cut(strings.TrimSpace(item), "-")
		if !ranged {
			high = low
		}
		a, errA := strconv.Atoi(low)
		b, errB := strconv.Atoi(high)
		if errA != nil || errB != nil || a < 200 || b > 599 || a > b {
			return nil, fmt.Errorf(`must be statuses between 200 and 599 like "200-299,404", got %q`, list)
		}
		all = append(all, [2]int{a, b})
	}
	return all, nil
}

// Contain reports whether a status is among them.
func (s Statuses) Contain(status int) bool {
	if s == nil {
		return status >= 200 && status <= 299
	}
	for _, r := range s {
		if status >= r[0] && status <= r[1] {
			return true
		}
	}
	return false
}
