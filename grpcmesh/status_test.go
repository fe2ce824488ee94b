package grpcmesh

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// hollow is an error of a user's context that wraps nothing, as a list and as one.
type hollow struct{ error }

func (hollow) Unwrap() error { return nil }

type hollowList struct{ error }

func (hollowList) Unwrap() []error { return nil }

func TestRootOfErrors(t *testing.T) {
	one, list := hollow{errors.New("one")}, hollowList{errors.New("list")}
	for _, tc := range []struct{ err, want error }{
		{context.Canceled, context.Canceled},
		{fmt.Errorf("%w: %w", context.Canceled, context.DeadlineExceeded), context.Canceled},
		{fmt.Errorf("call: %w", errors.Join(context.DeadlineExceeded, context.Canceled)), context.DeadlineExceeded},
		{fmt.Errorf("call: %w", one), one},
		{fmt.Errorf("call: %w", list), list},
	} {
		if got := root(tc.err); any(got) != any(tc.want) {
			t.Errorf("root(%v) = %v, want %v", tc.err, got, tc.want)
		}
	}
}
