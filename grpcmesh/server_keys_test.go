package grpcmesh

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/resilience"
)

// A server that says why it refuses is believed where the reason fits, and no further.
func TestServersWithoutTimeAreNotToBlame(t *testing.T) {
	lacking := resilience.Verdict{Outcome: resilience.Neutral, Retry: true, Unsent: true, After: -1}
	for _, tt := range []struct {
		why  string
		code codes.Code
		want resilience.Verdict
	}{
		{tooLate, codes.DeadlineExceeded, lacking},
		{"1", codes.DeadlineExceeded, resilience.Verdict{Outcome: resilience.Failure}},
		{tooLate, codes.Unavailable, resilience.Verdict{Outcome: resilience.Failure, Retry: true, After: noTime}},
		{tooLate, codes.NotFound, resilience.Verdict{Outcome: resilience.Success}},
	} {
		e := ending{err: status.Error(tt.code, ""), sent: true, received: true}
		e.pushback = pushback(metadata.Pairs(noRetryKey, tt.why, pushbackKey, "-1"))
		if got := e.verdict(); got != tt.want {
			t.Errorf("%v because of %q: verdict %+v, want %+v", tt.code, tt.why, got, tt.want)
		}
	}
}
