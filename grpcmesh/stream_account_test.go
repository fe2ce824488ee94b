package grpcmesh

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
)

// account is what became of one call.
type account struct {
	kind       grpc.StreamDesc
	repeatable bool
	finished   chan struct{}

	begun, finishes int
	ends            []zerohop.CallResult
	attempts        map[int]int // by number: 1 under way, 2 over
	opened          int         // attempts, as an interceptor sees them
	executions      []*run

	bound  bool // the client got something, or saw the context
	late   int  // attempts that were opened after that
	gaveUp bool // the client did, or may have
	sent   int  // messages
	closed bool // and no more
	heard  []string
	err    error    // that the client got last
	by     []string // the execution that ended, as its trailer says
}

// run is what a server did for a call.
type run struct {
	told     []int
	complete bool // up to the end of what the client had to say
	replies  int
	done     bool // with success
}

func (a *account) String() string {
	text := fmt.Sprintf("%+v, repeatable %v, bound %v, gave up %v, sent %d, closed %v, heard %q and %v, by %q",
		a.kind, a.repeatable, a.bound, a.gaveUp, a.sent, a.closed, a.heard, a.err, a.by)
	for _, e := range a.executions {
		text += fmt.Sprintf("\nexecution: %+v", *e)
	}
	for _, r := range a.ends {
		text += fmt.Sprintf("\nend: %+v", r)
	}
	return text
}

// done reports whether the client was told of success.
func (a *account) done() bool { return isEOF(a.err) || a.err == nil && len(a.heard) > 0 }

// faults says what is wrong.
func (a *account) faults() (list []string) {
	want := func(ok bool, what string) {
		if !ok {
			list = append(list, what)
		}
	}
	stream := a.kind.ClientStreams || a.kind.ServerStreams
	want(a.begun == 1 && len(a.ends) == 1, "did not begin and end once")
	want(!stream || a.finishes == 1 && a.opened == len(a.attempts), "attempts were not counted, or it did not finish once")
	for n, seen := range a.attempts {
		want(seen == 2, fmt.Sprint("attempt ", n, " did not end once"))
	}
	want(a.late == 0, "was repeated after the client had seen something of it")
	want(a.repeatable || len(a.executions) <= 1, "was repeated")
	for i, e := range a.executions {
		want(len(e.told) == 0 || slices.IsSorted(e.told) && e.told[0] == 0 && e.told[len(e.told)-1] == len(e.told)-1, fmt.Sprint("execution ", i, " did not hear all: ", e.told))
	}
	for k, text := range a.heard {
		first, _, _ := strings.Cut(a.heard[0], " ")
		want(text == fmt.Sprint(first, " ", k), fmt.Sprint("the client did not hear all: ", a.heard))
	}
	if !a.gaveUp && !a.done() {
		want(status.Code(a.err) != codes.DeadlineExceeded, "lasted for ever")
		want(len(a.ends) != 1 || a.ends[0].Err != nil && a.ends[0].Status != 0, "is said to have succeeded")
	}
	if !a.done() {
		return list
	}
	want(a.gaveUp || len(a.ends) != 1 || a.ends[0].Err == nil && a.ends[0].Status == 0, "is said to have failed")
	if len(a.by) != 1 {
		want(false, "ended without a trailer")
		return list
	}
	i, _ := strconv.Atoi(a.by[0])
	e := a.executions[i]
	want(e.done, "was not done")
	want(!e.complete || !a.closed || len(e.told) == a.sent, "was done without all messages")
	want(len(a.heard) == e.replies, "ended before all replies were heard")
	want(len(a.heard) == 0 || strings.HasPrefix(a.heard[0], a.by[0]+" "), "ended differently than it began")
	return list
}
