package resilience

import (
	"testing"
	"time"
)

func TestHTTPStatus(t *testing.T) {
	const after = 3 * time.Second
	retry := Verdict{Outcome: Failure, Retry: true}
	final := Verdict{Outcome: Failure, Retry: true, After: -1}
	misdirected := Verdict{Outcome: Success, Retry: true, Unsent: true}
	special := map[int][3]Verdict{ // without Retry-After, with one, and with the wish for no retry
		421: {misdirected, misdirected, {Outcome: Success, Retry: true, Unsent: true, After: -1}},
		429: {{Outcome: Overload, Retry: true}, {Outcome: Overload, Retry: true, After: after}, {Outcome: Overload, Retry: true, After: -1}},
		501: {{Outcome: Success}, {Outcome: Success}, {Outcome: Success}},
		502: {retry, retry, final},
		503: {retry, {Outcome: Overload, Retry: true, After: after}, final},
		504: {retry, retry, final},
	}
	for code := 100; code <= 599; code++ {
		want, ok := special[code]
		if !ok && code >= 500 {
			want = [3]Verdict{{Outcome: Failure}, {Outcome: Failure}, {Outcome: Failure}}
		}
		for i, d := range []time.Duration{0, after, -1} {
			if got := HTTPStatus(code, d); got != want[i] {
				t.Errorf("HTTPStatus(%d, %v) = %+v, want %+v", code, d, got, want[i])
			}
		}
	}
}

func TestGRPCStatus(t *testing.T) {
	const after = 3 * time.Second
	special := map[uint32][3]Verdict{ // without pushback, with some, with a negative one
		1:  {{Outcome: Neutral}, {Outcome: Neutral}, {Outcome: Neutral}},
		4:  {{Outcome: Failure}, {Outcome: Failure}, {Outcome: Failure}},
		8:  {{Outcome: Overload}, {Outcome: Overload, Retry: true, After: after}, {Outcome: Overload, Retry: true, After: -1}},
		13: {{Outcome: Failure}, {Outcome: Failure}, {Outcome: Failure}},
		14: {{Outcome: Failure, Retry: true}, {Outcome: Failure, Retry: true, After: after}, {Outcome: Failure, Retry: true, After: -1}},
		15: {{Outcome: Failure}, {Outcome: Failure}, {Outcome: Failure}},
	}
	for code := range uint32(18) { // 17 is not assigned
		want := special[code] // all others are successes that no retry improves
		for i, d := range []time.Duration{0, after, -1} {
			if got := GRPCStatus(code, d); got != want[i] {
				t.Errorf("GRPCStatus(%d, %v) = %+v, want %+v", code, d, got, want[i])
			}
		}
	}
}
