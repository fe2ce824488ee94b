package httpmesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

var (
	succeeded = resilience.Verdict{Outcome: resilience.Success}
	failed    = resilience.Verdict{Outcome: resilience.Failure}
	repeated  = resilience.Verdict{Outcome: resilience.Failure, Retry: true}
)

// rpcAnswer is a response as a server would send it, the length of its body not announced.
func rpcAnswer(code int, body string, headers ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Add(headers[i], headers[i+1])
	}
	return &http.Response{StatusCode: code, Header: h, ContentLength: -1, Body: io.NopCloser(strings.NewReader(body))}
}

// post is the request of a unary call.
func post(ctx context.Context, t testing.TB) *http.Request {
	return request(ctx, t, http.MethodPost, "http://orders/", strings.NewReader("message"))
}

func TestConnectErrorsAreJudgedByTheirCode(t *testing.T) {
	const contentType, asJSON = "Content-Type", "application/json"
	long := fmt.Sprintf(`{"code":"unavailable","message":%q}`, strings.Repeat("x", previewLimit))
	for _, row := range []struct {
		name string
		resp *http.Response
		want resilience.Verdict
	}{
		{"answer", rpcAnswer(200, "{}", contentType, asJSON), succeeded},
		{"not modified", rpcAnswer(304, ""), succeeded},
		{"unavailable", rpcAnswer(503, `{"code":"unavailable"}`, contentType, asJSON), repeated},
		{"unavailable with charset", rpcAnswer(503, `{"code":"unavailable"}`, contentType, "application/json; charset=utf-8"), repeated},
		{"unavailable, says when", rpcAnswer(503, `{"code":"unavailable"}`, contentType, asJSON, "Retry-After", "2"),
			resilience.Verdict{Outcome: resilience.Failure, Retry: true, After: 2 * time.Second}},
		{"unavailable, long message", rpcAnswer(503, long, contentType, asJSON), repeated},
		{"unknown", rpcAnswer(500, `{"code":"unknown","message":"no such shelf"}`, contentType, asJSON), succeeded},
		{"internal", rpcAnswer(500, `{"code":"internal"}`, contentType, asJSON), failed},
		{"data loss", rpcAnswer(500, `{"code":"data_loss"}`, contentType, asJSON), failed},
		{"500, long message", rpcAnswer(500, long, contentType, asJSON), succeeded},
		{"500 in other words", rpcAnswer(500, `{"error":"oops"}`, contentType, asJSON), failed},
		{"500 of another", rpcAnswer(500, "<html>", contentType, "text/html"), failed},
		{"500, broken JSON", rpcAnswer(500, `{"code":`, contentType, asJSON), failed},
		{"500, nothing", rpcAnswer(500, ""), failed},
		{"502 of a proxy", rpcAnswer(502, `{"message":"bad gateway"}`, contentType, asJSON), repeated},
		{"503 of a proxy, says when", rpcAnswer(503, "", "Retry-After", "2"),
			resilience.Verdict{Outcome: resilience.Overload, Retry: true, After: 2 * time.Second}},
		{"compressed", rpcAnswer(503, deflated(`{"code":"not_found"}`), contentType, asJSON, "Content-Encoding", "gzip"), succeeded},
		{"compressed in vain", rpcAnswer(503, `{"code":"not_found"}`, contentType, asJSON, "Content-Encoding", "gzip"), repeated},
		{"compressed otherwise", rpcAnswer(503, "x", contentType, asJSON, "Content-Encoding", "br"), repeated},
		{"500, compressed otherwise", rpcAnswer(500, "x", contentType, asJSON, "Content-Encoding", "br"), succeeded},
		{"exhausted", rpcAnswer(429, `{"code":"resource_exhausted"}`, contentType, asJSON), resilience.Verdict{Outcome: resilience.Overload}},
		{"exhausted, says when", rpcAnswer(429, `{"code":"resource_exhausted"}`, contentType, asJSON, "Retry-After", "1"),
			resilience.Verdict{Outcome: resilience.Overload, Retry: true, After: time.Second}},
		{"message too large", rpcAnswer(429, `{"code":"resource_exhausted","message":"message size 9 is larger than configured max 8"}`,
			contentType, asJSON), succeeded},
		{"429 of a proxy", rpcAnswer(429, ""), resilience.Verdict{Outcome: resilience.Overload, Retry: true}},
		{"deadline of its own", rpcAnswer(504, `{"code":"deadline_exceeded"}`, contentType, asJSON), failed},
		{"canceled", rpcAnswer(499, `{"code":"canceled"}`, contentType, asJSON), resilience.Verdict{Outcome: resilience.Neutral}},
		{"deadline, before 2024", rpcAnswer(408, `{"code":"deadline_exceeded"}`, contentType, asJSON), failed},
		{"unimplemented", rpcAnswer(501, `{"code":"unimplemented"}`, contentType, asJSON), succeeded},
		{"invalid", rpcAnswer(400, `{"code":"invalid_argument"}`, contentType, asJSON), succeeded},
		{"not found", rpcAnswer(404, `{"code":"not_found"}`, contentType, asJSON), succeeded},
		{"misdirected", rpcAnswer(421, ""), resilience.Verdict{Outcome: resilience.Success, Retry: true, Unsent: true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			want, err := io.ReadAll(row.resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			row.resp.Body = io.NopCloser(bytes.NewReader(want))
			if got := connectUnary.judge(post(t.Context(), t), row.resp); got != row.want {
				t.Errorf("judge() = %+v, want %+v", got, row.want)
			}
			if got := read(t, row.resp, nil); got != string(want) {
				t.Errorf("the caller reads %q, want %q", got, want)
			}
		})
	}
}

func TestEveryConnectCodeHasTheNumberOfGRPC(t *testing.T) {
	seen := map[uint32]bool{}
	for name, code := range connectCodes {
		if code < 1 || code > 16 || seen[code] {
			t.Errorf("code of %q = %d, want another one between 1 and 16", name, code)
		}
		seen[code] = true
	}
	if got, want := len(connectCodes), 16; got != want {
		t.Errorf("%d codes, want %d", got, want)
	}
}

func TestGRPCStatusInHeadersIsJudged(t *testing.T) {
	for _, p := range []protocol{grpc, grpcWeb} {
		for _, row := range []struct {
			name string
			resp *http.Response
			want resilience.Verdict
		}{
			{"begins", rpcAnswer(200, ""), succeeded},
			{"ok", rpcAnswer(200, "", "Grpc-Status", "0"), succeeded},
			{"unavailable", rpcAnswer(200, "", "Grpc-Status", "14"), repeated},
			{"unavailable, says when", rpcAnswer(200, "", "Grpc-Status", "14", "Grpc-Retry-Pushback-Ms", "30"),
				resilience.Verdict{Outcome: resilience.Failure, Retry: true, After: 30 * time.Millisecond}},
			{"unavailable, wants no retry", rpcAnswer(200, "", "Grpc-Status", "14", "Grpc-Retry-Pushback-Ms", "-5"),
				resilience.Verdict{Outcome: resilience.Failure, Retry: true, After: -1}},
			{"unavailable, says twice", rpcAnswer(200, "", "Grpc-Status", "14", "Grpc-Retry-Pushback-Ms", "5", "Grpc-Retry-Pushback-Ms", "6"),
				resilience.Verdict{Outcome: resilience.Failure, Retry: true, After: -1}},
			{"exhausted", rpcAnswer(200, "", "Grpc-Status", "8"), resilience.Verdict{Outcome: resilience.Overload}},
			{"message too large", rpcAnswer(200, "", "Grpc-Status", "8", "Grpc-Message", "received message larger than max (9 vs. 8)"), succeeded},
			{"no number", rpcAnswer(200, "", "Grpc-Status", "bad"), succeeded},
			{"not found", rpcAnswer(200, "", "Grpc-Status", "5"), succeeded},
			{"internal", rpcAnswer(200, "", "Grpc-Status", "13"), failed},
			{"503 of a proxy", rpcAnswer(503, ""), repeated},
			{"503 of a proxy, says when", rpcAnswer(503, "", "Retry-After", "2"),
				resilience.Verdict{Outcome: resilience.Overload, Retry: true, After: 2 * time.Second}},
			{"status counts more", rpcAnswer(503, "", "Grpc-Status", "5"), succeeded},
		} {
			if got := p.judge(post(t.Context(), t), row.resp); got != row.want {
				t.Errorf("%d: %s: judge() = %+v, want %+v", p, row.name, got, row.want)
			}
		}
	}
}

func TestGRPCStatusInTrailersIsJudgedIfNothingCameBefore(t *testing.T) {
	pipe, _ := io.Pipe()
	for _, row := range []struct {
		name, answer string
		message      io.Reader
		want         resilience.Verdict
	}{
		{"error", "", strings.NewReader("message"), resilience.Verdict{Outcome: resilience.Failure, Retry: true, After: 30 * time.Millisecond}},
		{"message", "message", strings.NewReader("message"), succeeded},
		{"stream of the caller", "", pipe, succeeded},
	} {
		t.Run(row.name, func(t *testing.T) {
			resp := rpcAnswer(200, row.answer)
			resp.Trailer = http.Header{"Grpc-Status": {"14"}, "Grpc-Retry-Pushback-Ms": {"30"}}
			if got := grpc.judge(request(t.Context(), t, http.MethodPost, "http://orders/", row.message), resp); got != row.want {
				t.Errorf("judge() = %+v, want %+v", got, row.want)
			}
			if got := read(t, resp, nil); got != row.answer {
				t.Errorf("the caller reads %q, want %q", got, row.answer)
			}
		})
	}
}

// Whoever begins to answer and then waits for events must not keep its caller from reading the headers.
func TestSilentStreamsAreHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp := rpcAnswer(200, "")
		resp.Body = &dribble{strings.NewReader("event"), time.Hour, make(chan struct{})}
		start := time.Now()
		if got := grpc.judge(post(t.Context(), t), resp); got != succeeded {
			t.Errorf("judge() = %+v, want %+v", got, succeeded)
		}
		if got := time.Since(start); got != previewTime {
			t.Errorf("judge() took %v, want %v", got, previewTime)
		}
		if got, want := read(t, resp, nil), "event"; got != want {
			t.Errorf("the caller reads %q, want %q", got, want)
		}
	})
}

func TestPlainAnswersAreJudgedByTheirStatus(t *testing.T) {
	resp := rpcAnswer(503, `{"code":"not_found"}`, "Content-Type", "application/json", "Grpc-Status", "5")
	if got := plain.judge(post(t.Context(), t), resp); got != repeated {
		t.Errorf("judge() = %+v, want %+v", got, repeated)
	}
}

// Another than the caller's may have been meant: only a deadline about to pass explains that the server saw one pass.
func TestServersThatAreAheadOfTheDeadlineBlameNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, row := range []struct{ left, want time.Duration }{{10 * time.Millisecond, 10 * time.Millisecond}, {time.Second, 0}} {
			ctx, cancel := context.WithTimeout(t.Context(), row.left)
			defer cancel()
			start := time.Now()
			if got := grpc.judge(post(ctx, t), rpcAnswer(200, "", "Grpc-Status", "4")); got != failed {
				t.Errorf("judge() = %+v, want %+v", got, failed)
			}
			if got := time.Since(start); got != row.want {
				t.Errorf("%v before the deadline, judge() took %v, want %v", row.left, got, row.want)
			}
		}
	})
}

// dribble is a body that sends a byte at a time.
type dribble struct {
	*strings.Reader
	pause  time.Duration
	closed chan struct{}
}

func (d *dribble) Read(p []byte) (int, error) {
	select {
	case <-time.After(d.pause):
		return d.Reader.Read(p[:1])
	case <-d.closed:
		return 0, errors.New("closed")
	}
}

func (d *dribble) Close() error {
	close(d.closed)
	return nil
}

func TestSlowErrorsHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const text = `{"code":"not_found"}`
		resp := rpcAnswer(503, "", "Content-Type", "application/json")
		resp.Body = &dribble{strings.NewReader(text), time.Second, make(chan struct{})}
		start := time.Now()
		if got := connectUnary.judge(post(t.Context(), t), resp); got != repeated {
			t.Errorf("judge() = %+v, want %+v", got, repeated)
		}
		if got := time.Since(start); got != previewTime {
			t.Errorf("judge() took %v, want %v", got, previewTime)
		}
		if got := read(t, resp, nil); got != text {
			t.Errorf("the caller reads %q, want %q", got, text)
		}
	})
}

func TestSlowErrorsCanBeClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		resp := rpcAnswer(503, "", "Content-Type", "application/json")
		resp.Body = &dribble{strings.NewReader(`{}`), time.Hour, make(chan struct{})}
		connectUnary.judge(post(t.Context(), t), resp)
		resp.Body.Close()
		if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
			t.Error("reading a closed body succeeded")
		}
	})
}

func TestErrorsThatBreakOffAreHandedOn(t *testing.T) {
	broken := errors.New("broken")
	resp := rpcAnswer(500, "", "Content-Type", "application/json")
	resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"code":`), iotest.ErrReader(broken)))
	connectUnary.judge(post(t.Context(), t), resp)
	data, err := io.ReadAll(resp.Body)
	if got, want := string(data), `{"code":`; got != want || !errors.Is(err, broken) {
		t.Errorf("body = %q, %v, want %q, %v", got, err, want, broken)
	}
}
