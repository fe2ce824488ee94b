package httpmesh

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop/resilience"
)

// envelope puts a message into a frame.
func envelope(flags byte, message string) string {
	head := binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message)))
	return string(head) + message
}

// deflated compresses a message.
func deflated(message string) string {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(message))
	if err := errors.Join(err, z.Close()); err != nil {
		panic(err)
	}
	return b.String()
}

func TestStreamsAreJudgedByTheirEnd(t *testing.T) {
	const data = "\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x03abc"
	huge := strings.Repeat("x", endLimit+1)
	for _, row := range []struct {
		name     string
		protocol protocol
		body     string
		want     resilience.Outcome
		bad      bool // there is an error
	}{
		{"connect", connectStream, data + envelope(2, "{}"), resilience.Success, false},
		{"connect, with metadata", connectStream, envelope(2, `{"metadata":{"a":["b"]}}`), resilience.Success, false},
		{"connect, empty end", connectStream, data + envelope(2, ""), resilience.Failure, true},
		{"connect, no end", connectStream, data, resilience.Failure, true},
		{"connect, half an end", connectStream, data + envelope(2, "{}")[:6], resilience.Failure, true},
		{"connect, half a head", connectStream, data + "\x02\x00", resilience.Failure, true},
		{"connect, nothing", connectStream, "", resilience.Failure, true},
		{"connect, unavailable", connectStream, data + envelope(2, `{"error":{"code":"unavailable"}}`), resilience.Failure, true},
		{"connect, exhausted", connectStream, envelope(2, `{"error":{"code":"resource_exhausted"}}`), resilience.Overload, true},
		{"connect, canceled", connectStream, envelope(2, `{"error":{"code":"canceled"}}`), resilience.Neutral, true},
		{"connect, not found", connectStream, envelope(2, `{"error":{"code":"not_found","message":"no"}}`), resilience.Success, false},
		{"connect, unheard of", connectStream, envelope(2, `{"error":{"code":"code_99"}}`), resilience.Success, false},
		{"connect, compressed end", connectStream, data + envelope(3, deflated(`{"error":{"code":"unavailable"}}`)), resilience.Failure, true},
		{"connect, compressed end that is long", connectStream, data + envelope(3, deflated(`{"error":{"code":"unavailable","message":"`+huge+`"}}`)),
			resilience.Success, false},
		{"connect, end not compressed after all", connectStream, data + envelope(3, `{"error":{"code":"unavailable"}}`), resilience.Success, false},
		{"connect, long end", connectStream, envelope(2, `{"error":{"code":"unavailable","message":"`+huge+`"}}`), resilience.Success, false},
		{"connect, end is no JSON", connectStream, envelope(2, "oops"), resilience.Failure, true},
		{"connect, data looks like an end", connectStream, envelope(0, envelope(2, `{"error":{"code":"unavailable"}}`)) + envelope(2, "{}"),
			resilience.Success, false},
		{"grpc-web", grpcWeb, data + envelope(0x80, "grpc-status: 0\r\ngrpc-message: \r\n"), resilience.Success, false},
		{"grpc-web, unavailable", grpcWeb, data + envelope(0x80, "grpc-status:14\r\n"), resilience.Failure, true},
		{"grpc-web, last line open", grpcWeb, data + envelope(0x80, "Grpc-Status: 14"), resilience.Failure, true},
		{"grpc-web, not found", grpcWeb, data + envelope(0x80, "grpc-status: 5\r\n"), resilience.Success, false},
		{"grpc-web, no status", grpcWeb, data + envelope(0x80, ""), resilience.Failure, true},
		{"grpc-web, no trailers", grpcWeb, data + envelope(0x80, "oops"), resilience.Failure, true},
		{"grpc-web, no end", grpcWeb, data + envelope(2, "{}"), resilience.Failure, true},
		{"grpc-web, compressed end", grpcWeb, data + envelope(0x81, deflated("grpc-status: 14\r\n")), resilience.Failure, true},
	} {
		for _, piece := range []int{1, 3, len(row.body) + 1} {
			resp := rpcAnswer(200, "", "Content-Type", map[protocol]string{
				connectStream: "application/connect+proto", grpcWeb: "application/grpc-web+proto",
			}[row.protocol])
			resp.Header.Set("Connect-Content-Encoding", "gzip")
			resp.Header.Set("Grpc-Encoding", "gzip")
			e := row.protocol.watched(resp)
			if e == nil {
				t.Fatalf("%s: not watched", row.name)
			}
			for rest := []byte(row.body); len(rest) > 0; {
				n := min(piece, len(rest))
				e.saw(rest[:n])
				rest = rest[n:]
			}
			got, err := e.outcome(t.Context(), true)
			if got != row.want || (err != nil) != row.bad {
				t.Errorf("%s in pieces of %d: outcome() = %v, %v, want %v", row.name, piece, got, err, row.want)
			}
			if got := cap(e.last); got > 2*endLimit {
				t.Errorf("%s: %d bytes kept", row.name, got)
			}
		}
	}
}

func TestGRPCStreamsAreJudgedByTheirTrailers(t *testing.T) {
	for _, row := range []struct {
		status string
		want   resilience.Outcome
	}{
		{"0", resilience.Success}, {"5", resilience.Success}, {"14", resilience.Failure}, {"8", resilience.Overload}, {"", resilience.Failure},
	} {
		resp := rpcAnswer(200, "", "Content-Type", "application/grpc+proto")
		e := grpc.watched(resp)
		e.saw([]byte("anything"))
		if got, err := e.outcome(t.Context(), false); got != resilience.Success || err != nil {
			t.Errorf("before the end, outcome() = %v, %v, want a success", got, err)
		}
		if row.status != "" {
			resp.Trailer = http.Header{"Grpc-Status": {row.status}}
		}
		if got, _ := e.outcome(t.Context(), true); got != row.want {
			t.Errorf("status %q: outcome() = %v, want %v", row.status, got, row.want)
		}
	}
}

func TestStreamsThatAreLeftAreJudgedByWhatCame(t *testing.T) {
	resp := rpcAnswer(200, "", "Content-Type", "application/connect+json")
	e := connectStream.watched(resp)
	e.saw([]byte(envelope(0, "{}")))
	if got, err := e.outcome(t.Context(), false); got != resilience.Success || err != nil {
		t.Errorf("left in the middle, outcome() = %v, %v, want a success", got, err)
	}
	e.saw([]byte(envelope(2, `{"error":{"code":"unavailable"}}`)))
	if got, err := e.outcome(t.Context(), false); got != resilience.Failure || err == nil {
		t.Errorf("left at its end, outcome() = %v, %v, want a failure", got, err)
	}
}

func TestStreamsThatOutlastTheirCallerBlameNobody(t *testing.T) {
	for _, row := range []struct {
		left time.Duration
		want resilience.Outcome
	}{{time.Millisecond, resilience.Neutral}, {time.Hour, resilience.Failure}} {
		ctx, cancel := context.WithTimeout(t.Context(), row.left)
		defer cancel()
		e := connectStream.watched(rpcAnswer(200, "", "Content-Type", "application/connect+json"))
		e.saw([]byte(envelope(2, `{"error":{"code":"deadline_exceeded"}}`)))
		if got, _ := e.outcome(ctx, true); got != row.want {
			t.Errorf("%v before the deadline, outcome() = %v, want %v", row.left, got, row.want)
		}
	}
}

func TestAnswersThatSayItInTheirHeadersAreNotWatched(t *testing.T) {
	for _, row := range []struct {
		name     string
		protocol protocol
		resp     *http.Response
	}{
		{"plain", plain, rpcAnswer(200, "", "Content-Type", "application/grpc")},
		{"unary", connectUnary, rpcAnswer(200, "", "Content-Type", "application/proto")},
		{"status in the headers", grpc, rpcAnswer(200, "", "Content-Type", "application/grpc", "Grpc-Status", "0")},
		{"another status", connectStream, rpcAnswer(503, "", "Content-Type", "application/connect+proto")},
		{"another type", connectStream, rpcAnswer(200, "", "Content-Type", "text/html")},
		{"in base64", grpcWeb, rpcAnswer(200, "", "Content-Type", "application/grpc-web-text")},
	} {
		if row.protocol.watched(row.resp) != nil {
			t.Errorf("%s: is watched", row.name)
		}
	}
}

func TestMissingStatusIsNamed(t *testing.T) {
	e := grpcWeb.watched(rpcAnswer(200, "", "Content-Type", "application/grpc-web"))
	if _, err := e.outcome(t.Context(), true); !errors.Is(err, errNoStatus) {
		t.Errorf("error = %v, want %v", err, errNoStatus)
	}
}

// What a server sends is not to be trusted.
func FuzzEndings(f *testing.F) {
	f.Add([]byte(envelope(0, "abc")+envelope(2, `{"error":{"code":"unavailable"}}`)), uint8(1))
	f.Add([]byte(envelope(0x80, "grpc-status: 14\r\n")), uint8(4))
	f.Add([]byte("\x02\xff\xff\xff\xffabc"), uint8(0))
	f.Fuzz(func(t *testing.T, body []byte, size uint8) {
		for p, contentType := range map[protocol]string{connectStream: "application/connect+proto", grpcWeb: "application/grpc-web"} {
			whole := p.watched(rpcAnswer(200, "", "Content-Type", contentType))
			whole.saw(body)
			parts := p.watched(rpcAnswer(200, "", "Content-Type", contentType))
			for rest := body; len(rest) > 0; {
				n := min(int(size)+1, len(rest))
				parts.saw(rest[:n])
				rest = rest[n:]
			}
			got, _ := parts.outcome(t.Context(), true)
			if want, _ := whole.outcome(t.Context(), true); got != want {
				t.Errorf("protocol %d in pieces of %d: outcome() = %v, want %v", p, int(size)+1, got, want)
			}
			if len(parts.last) > endLimit {
				t.Errorf("protocol %d: %d bytes kept, want at most %d", p, len(parts.last), endLimit)
			}
		}
	})
}
