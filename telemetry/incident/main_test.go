package incident

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/resilience"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open returns a recorder that is closed with the test.
func open(t testing.TB, cfg Config) *Recorder {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// openMesh returns a mesh that is closed with the test.
func openMesh(t testing.TB, cfg zerohop.Config) *zerohop.Mesh {
	t.Helper()
	m, err := zerohop.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// dump returns what a recorder has.
func dump(t testing.TB, r *Recorder) *Dump {
	t.Helper()
	var b bytes.Buffer
	if err := r.Dump(&b); err != nil {
		t.Fatal(err)
	}
	d, err := Read(&b, r.instance)
	if err != nil {
		t.Fatal(err)
	}
	if d.Incomplete != "" {
		t.Fatalf("dump %s", d.Incomplete)
	}
	return d
}

// of returns the entries of a kind.
func (d *Dump) of(kind Kind) (list []Entry) {
	for _, e := range d.Entries {
		if e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

// total adds up the sums of a service.
func (d *Dump) total(service string) (s Second) {
	for _, e := range d.of(KindSecond) {
		if e.Service == service {
			s.Add(e.Second)
		}
	}
	return s
}

// endpoints lists n addresses.
func endpoints(n int) []discovery.Endpoint {
	list := make([]discovery.Endpoint, n)
	for i := range list {
		list[i].Addr = fmt.Sprintf("10.0.0.%d:80", i+1)
	}
	return list
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answer(req *http.Request, status int) (*http.Response, error) {
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: req, Header: http.Header{}}, nil
}

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}

// call drives the hooks of a call that ended just now.
func call(h zerohop.Hooks, service string, took time.Duration, err error) {
	c := zerohop.CallInfo{Service: service, Start: time.Now().Add(-took)}
	r := zerohop.CallResult{Duration: took, Status: 200, Attempts: 1}
	if err != nil {
		r.Err, r.Outcome, r.Status, r.Detail = err, resilience.Failure, -1, resilience.Exhausted
	}
	h.CallDone(context.Background(), c, r)
}

var errBroken = errors.New("broken")
