//go:build linux || darwin

package httpmesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/samehost"
)

// ways returns Transports that reach a handler as "orders" over TCP, over a socket and in the process. The first is that which
// the others are held against.
func ways(t *testing.T, h http.Handler) map[string]*Transport {
	t.Helper()
	dir := directory(t)
	s := beside(t, dir, h, func(s *httptest.Server) {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.Start()
	})
	once := zerohop.Spec{Defaults: zerohop.Policy{
		Retry: zerohop.Retry{Mode: zerohop.Off}, Backup: zerohop.Backup{Mode: zerohop.Off}, Connect: zerohop.Connect{Timeout: time.Minute},
	}}
	list := map[string]*Transport{}
	for _, way := range []string{"tcp", "unix", "in-process"} {
		cfg := zerohop.Config{Resolver: discovery.Static{"orders": {s.endpoint()}}, Spec: once}
		cfg.Hooks.AttemptDone = func(_ context.Context, _ zerohop.CallInfo, _ zerohop.AttemptInfo, r zerohop.AttemptResult) {
			if r.Network.String() != way {
				t.Errorf("an attempt went over %v, want %s: %v", r.Network, way, r.Err)
			}
		}
		if way == "unix" {
			cfg.Sockets = samehost.Policy{Directories: []string{dir}}
		}
		tr := client(t, open(t, cfg))
		if way == "in-process" {
			tr.Handlers = map[string]http.Handler{s.endpoint().Addr: h}
		}
		list[way] = tr
	}
	return list
}

// seenOf describes a response, with all that does not depend on the protocol.
func seenOf(resp *http.Response, err error) string {
	if err != nil {
		return "no answer"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var b strings.Builder
	fmt.Fprintf(&b, "%s length %d\n", resp.Status, resp.ContentLength)
	for _, h := range []http.Header{resp.Header, resp.Trailer} {
		for _, k := range slices.Sorted(maps.Keys(h)) {
			v := fmt.Sprintf("%q", h[k])
			if k == "Date" && len(h[k]) == 1 {
				_, err := http.ParseTime(h[k][0])
				v = fmt.Sprint(err == nil)
			}
			fmt.Fprintf(&b, "%s: %s\n", k, v)
		}
		b.WriteString("--\n")
	}
	fmt.Fprintf(&b, "%d bytes %.40q, %v", len(body), body, err)
	return b.String()
}

// Every way to a handler shows both sides the same.
func TestAllWaysToAHandlerAreAlike(t *testing.T) {
	mute(t)
	note := func(w http.ResponseWriter, format string, args ...any) {
		w.Header().Add("Note", fmt.Sprintf(format, args...))
	}
	post := func(body func() io.Reader) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			return request(t.Context(), t, http.MethodPost, "http://orders/", body())
		}
	}
	text := func(s string) func() io.Reader { return func() io.Reader { return strings.NewReader(s) } }
	method := func(m string) func(*testing.T) *http.Request {
		return func(t *testing.T) *http.Request {
			return request(t.Context(), t, m, "http://user:secret@orders/a%2Fb/c?q=1&r=%20#fragment", nil)
		}
	}
	unknown := func(s string) func() io.Reader {
		return func() io.Reader { return io.MultiReader(strings.NewReader(s)) }
	}
	echo := func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		note(w, "%d %d %v %v", len(data), r.ContentLength, r.Header["Content-Length"], err)
		w.Write(data)
	}
	for name, c := range map[string]struct {
		handle  http.HandlerFunc
		request func(t *testing.T) *http.Request
	}{
		"nothing":    {func(http.ResponseWriter, *http.Request) {}, method("GET")},
		"short text": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, method("GET")},
		"pieces of text": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<ht")
			io.WriteString(w, "ml>")
		}, method("GET")},
		"no bytes": {func(w http.ResponseWriter, _ *http.Request) { w.Write(nil) }, method("GET")},
		"long text": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat("abc", 100_000))
		}, method("GET")},
		"many pieces": {func(w http.ResponseWriter, _ *http.Request) {
			for range 5000 {
				io.WriteString(w, "abc")
			}
		}, method("GET")},
		"text that grows": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<html>")
			w.Write(make([]byte, 9000))
		}, method("GET")},
		"flushed": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "abc")
			w.(http.Flusher).Flush()
			io.WriteString(w, "def")
		}, method("GET")},
		"flushed before text": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			io.WriteString(w, "def")
		}, method("GET")},
		"HEAD of short text": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, method("HEAD")},
		"HEAD of nothing":    {func(http.ResponseWriter, *http.Request) {}, method("HEAD")},
		"HEAD of long text":  {func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 100_000)) }, method("HEAD")},
		"HEAD with length":   {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "7") }, method("HEAD")},
		"declared length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "abc")
		}, method("GET")},
		"less than declared": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "abc")
		}, method("GET")},
		"length of 0": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "0") }, method("GET")},
		"type of the handler": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			io.WriteString(w, "abc")
		}, method("GET")},
		"type left out": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "abc")
		}, method("GET")},
		"encoded": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "x")
			io.WriteString(w, "abc")
		}, method("GET")},
		"date left out": {func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil }, method("GET")},
		"teapot": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(418)
			io.WriteString(w, "short")
		}, method("GET")},
		"status without a name": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(299) }, method("GET")},
		"second status": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			w.WriteHeader(500)
			w.Header().Set("Late", "1")
		}, method("GET")},
		"headers of all kinds": {func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h["x-lower"], h["X-Twice"], h["X-None"], h["X-Space"] = []string{"1"}, []string{"a", "b"}, []string{}, []string{" a b\t"}
			h["X-Line"], h["Bad Name"], h["X-Empty"] = []string{"a\r\nEvil: 1"}, []string{"1"}, []string{""}
			w.WriteHeader(200)
			h.Set("X-Late", "1")
		}, method("GET")},
		"too much": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "abc")
			_, err := io.WriteString(w, "d")
			if !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		}, method("GET")},
		"too much at once": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "a")
			for range 2 {
				if _, err := io.WriteString(w, "bcd"); !errors.Is(err, http.ErrContentLength) {
					panic(err)
				}
			}
		}, method("GET")},
		"no content": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			w.WriteHeader(204)
			if _, err := io.WriteString(w, "abc"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}, method("GET")},
		"not modified": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			w.Header().Set("ETag", "x")
			w.WriteHeader(304)
			if _, err := io.WriteString(w, "abc"); !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}, method("GET")},
		"HEAD of no content":   {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, method("HEAD")},
		"HEAD of not modified": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, method("HEAD")},
		"trailers": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "x-one, X-Two")
			w.Header().Add("Trailer", "X-Missing")
			io.WriteString(w, "abc")
			w.Header().Set("X-One", "1")
			w.Header().Set("X-Two", "2")
			w.Header().Set("X-Undeclared", "3")
			w.Header().Set(http.TrailerPrefix+"X-Prefixed", "4")
		}, method("GET")},
		"trailers of nothing": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-One")
			w.Header().Set("X-One", "1")
		}, method("GET")},
		"panic": {func(http.ResponseWriter, *http.Request) { panic("on purpose") }, method("GET")},
		"panic after text": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "abc")
			panic("on purpose")
		}, method("GET")},
		"panic after flush": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "abc")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, method("GET")},
		"status that is none": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(99) }, method("GET")},
		"what is asked": {func(w http.ResponseWriter, r *http.Request) {
			note(w, "%s %s %q %q %q", r.Method, r.RequestURI, r.URL, r.URL.Path, r.URL.RawPath)
			note(w, "%q %q %q %v %d", r.Host, r.URL.Host, r.UserAgent()[:min(len(r.UserAgent()), 14)], r.TLS == nil, r.ContentLength)
			note(w, "%v %v", r.FormValue("q"), r.URL.User)
			data, err := io.ReadAll(r.Body)
			note(w, "%q %v %v", data, err, r.Body != nil)
		}, method("DELETE")},
		"headers of a request": {func(w http.ResponseWriter, r *http.Request) {
			for _, k := range slices.Sorted(maps.Keys(r.Header)) {
				if strings.HasPrefix(k, "X-") || k == "User-Agent" || k == "Host" || k == "Transfer-Encoding" || k == "Trailer" {
					note(w, "%s=%q", k, r.Header[k])
				}
			}
			note(w, "%q %d", r.Host, r.ContentLength)
			r.Header.Set("X-Mine", "changed")
			r.Header["X-Twice"][0] = "changed"
			r.URL.Path = "/changed"
		}, func(t *testing.T) *http.Request {
			req := request(t.Context(), t, "GET", "http://orders/a", nil)
			req.Host = "other.example"
			req.Header = http.Header{
				"x-lower": {"1"}, "X-Twice": {"a", "b"}, "X-Space": {" a "}, "User-Agent": {""}, "Host": {"evil"}, "X-Mine": {"1"},
				"Content-Length": {"7"}, "Transfer-Encoding": {"chunked"}, "Trailer": {"X"},
			}
			want := req.Header.Clone()
			t.Cleanup(func() {
				if got := req.Header; fmt.Sprint(got) != fmt.Sprint(want) || req.URL.Path != "/a" {
					t.Errorf("the handler changed the request of the caller: %v %v", got, req.URL)
				}
			})
			return req
		}},
		"body of known length":   {echo, post(text("hello"))},
		"body of unknown length": {echo, post(unknown("hello"))},
		"no body":                {echo, post(func() io.Reader { return nil })},
		"empty body":             {echo, post(func() io.Reader { return http.NoBody })},
		"long body":              {echo, post(text(strings.Repeat("0123456789", 200_000)))},
		"body nobody reads":      {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "no") }, post(text("hello"))},
		"form": {func(w http.ResponseWriter, r *http.Request) { note(w, "%q", r.PostFormValue("a")) }, func(t *testing.T) *http.Request {
			req := post(text("a=b%20c"))(t)
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			return req
		}},
		"body that is too large": {func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, 10)
			_, err := io.ReadAll(r.Body)
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			}
		}, func(t *testing.T) *http.Request { return post(text("0123456789abc"))(t) }},
		"body closed early": {func(w http.ResponseWriter, r *http.Request) {
			var b [2]byte
			n, err := io.ReadFull(r.Body, b[:])
			r.Body.Close()
			_, after := r.Body.Read(b[:])
			note(w, "%d %v %v", n, err, errors.Is(after, http.ErrBodyReadAfterClose))
		}, post(text("hello"))},
		"trailers of a request": {func(w http.ResponseWriter, r *http.Request) {
			before := fmt.Sprint(r.Trailer)
			data, err := io.ReadAll(r.Body)
			note(w, "%s %v %q %v", before, r.Trailer, data, err)
		}, func(t *testing.T) *http.Request {
			req := post(func() io.Reader { return nil })(t)
			req.Trailer = http.Header{"X-Sum": nil}
			req.Body = io.NopCloser(io.MultiReader(strings.NewReader("hello"), readFunc(func([]byte) (int, error) {
				req.Trailer.Set("X-Sum", "5")
				return 0, io.EOF
			})))
			return req
		}},
		"body shorter than said": {func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Error("body is complete, want that it breaks off")
			}
		}, func(t *testing.T) *http.Request {
			req := post(unknown("hello"))(t)
			req.ContentLength = 7
			return req
		}},
		"body that fails": {func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Error("body is complete, want that it breaks off")
			}
		}, func(t *testing.T) *http.Request {
			return post(func() io.Reader {
				return io.MultiReader(strings.NewReader("hello"), readFunc(func([]byte) (int, error) { return 0, errOnPurpose }))
			})(t)
		}},
		"text after a length of 0": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "0")
			if _, err := io.WriteString(w, "abc"); !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		}, method("GET")},
		"trailers announced late": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat("abc", 3000))
			w.Header().Set("Trailer", "X-One")
			w.Header().Set("X-One", "1")
		}, method("GET")},
		"trailers that were not announced": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat("abc", 3000))
			w.Header().Set(http.TrailerPrefix+"X-One", "1")
		}, method("GET")},
		"deadline missed": {func(w http.ResponseWriter, _ *http.Request) {
			http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
			io.WriteString(w, "abc")
		}, method("GET")},
		"deadline missed within": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "6")
			io.WriteString(w, "abc")
			w.(http.Flusher).Flush()
			http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
			io.WriteString(w, "def")
		}, method("GET")},
		"invalid header": {func(http.ResponseWriter, *http.Request) { t.Error("the request came through") }, func(t *testing.T) *http.Request {
			req := post(text("x"))(t)
			req.Header["Bad Name"] = []string{"1"}
			return req
		}},
		"continued": {func(w http.ResponseWriter, r *http.Request) {
			data, _ := io.ReadAll(r.Body)
			note(w, "%q %q", data, r.Header["Expect"])
		}, func(t *testing.T) *http.Request {
			req := post(text("hello"))(t)
			req.Header.Set("Expect", "100-continue")
			return req
		}},
	} {
		t.Run(name, func(t *testing.T) {
			list := ways(t, c.handle)
			var want string
			for _, way := range []string{"tcp", "unix", "in-process"} {
				resp, err := list[way].RoundTrip(c.request(t))
				if name == "body that fails" && !errors.Is(err, errOnPurpose) {
					t.Errorf("%s: RoundTrip() = %v, want the error of the body", way, err)
				}
				got := seenOf(resp, err)
				if way == "tcp" {
					want = got
				} else if got != want {
					t.Errorf("%s:\n%s\nover TCP:\n%s", way, got, want)
				}
			}
		})
	}
}

var errOnPurpose = errors.New("on purpose")

// onAll runs a test for every way to a handler.
func onAll(t *testing.T, h http.HandlerFunc, f func(t *testing.T, tr *Transport)) {
	t.Helper()
	list := ways(t, h)
	for _, way := range []string{"tcp", "unix", "in-process"} {
		t.Run(way, func(t *testing.T) { f(t, list[way]) })
	}
}

func TestAnswersAreStreamedOnAllWays(t *testing.T) {
	next := make(chan struct{})
	onAll(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		buf := make([]byte, 1)
		for {
			if _, err := r.Body.Read(buf); err != nil {
				return
			}
			w.Write(bytes.ToUpper(buf))
			w.(http.Flusher).Flush()
			next <- struct{}{}
		}
	}, func(t *testing.T, tr *Transport) {
		pr, pw := io.Pipe()
		req := request(t.Context(), t, http.MethodPost, "http://orders/", pr)
		go pw.Write([]byte("a"))
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		buf := make([]byte, 1)
		for c := byte('a'); ; c++ {
			if _, err := io.ReadFull(resp.Body, buf); err != nil || buf[0] != c-'a'+'A' {
				t.Fatalf("Read() = %q, %v, want %q", buf, err, c)
			}
			<-next
			if c == 'z' {
				break
			}
			pw.Write([]byte{c + 1})
		}
		pw.Close()
		if n, err := resp.Body.Read(buf); n != 0 || err != io.EOF {
			t.Errorf("Read() = %d, %v, want the end", n, err)
		}
	})
}

func TestHandlersLearnThatTheCallerHasGoneOnAllWays(t *testing.T) {
	mute(t)
	const ( // when the caller goes
		beforeHead = "/before"
		inBody     = "/body"
		byClose    = "/close"
		inUpload   = "/upload"
		inWrite    = "/write"
	)
	begun, gone := make(chan struct{}), make(chan error)
	onAll(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == inBody || r.URL.Path == byClose {
			w.Write([]byte("x"))
			w.(http.Flusher).Flush()
		}
		begun <- struct{}{}
		switch r.URL.Path {
		case inUpload:
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Error("the upload is complete")
			}
		case inWrite:
			for err := error(nil); err == nil; {
				_, err = w.Write(make([]byte, 10_000))
			}
		}
		if r.URL.Path == byClose {
			//lint:ignore SA1019 frameworks use it
			if n, ok := w.(http.CloseNotifier); ok {
				<-n.CloseNotify()
			} else {
				t.Error("the http.ResponseWriter is no http.CloseNotifier")
			}
		}
		<-r.Context().Done()
		gone <- r.Context().Err()
	}, func(t *testing.T, tr *Transport) {
		for _, path := range []string{beforeHead, inBody, byClose, inUpload, inWrite} {
			ctx, cancel := context.WithCancel(t.Context())
			req := request(ctx, t, http.MethodGet, "http://orders"+path, nil)
			pr, pw := io.Pipe()
			if path == inUpload {
				req = request(ctx, t, http.MethodPost, "http://orders"+path, pr)
			}
			go func() {
				<-begun
				if path == beforeHead || path == inUpload {
					cancel()
					pw.CloseWithError(errOnPurpose) // else net/http waits for it
				}
			}()
			resp, err := tr.RoundTrip(req)
			switch path {
			case beforeHead, inUpload:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%s: RoundTrip() = %v, want that it was cancelled", path, err)
				}
			case inBody:
				cancel()
				if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
					t.Errorf("%s: Read() = %v, want that it was cancelled", path, err)
				}
				resp.Body.Close()
			default:
				resp.Body.Close()
				if _, err := resp.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
					t.Errorf("%s: Read() = %v after Close", path, err)
				}
			}
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: the handler saw %v", path, err)
			}
			cancel()
		}
	})
}

func TestDeadlinesOfHandlersWorkInTheProcess(t *testing.T) {
	errs := make(chan error, 1)
	tr := ways(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		var err error
		if r.URL.Path == "/read" {
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			_, err = io.ReadAll(r.Body)
		} else {
			if err := c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			for err == nil {
				_, err = w.Write(make([]byte, 100_000))
			}
		}
		errs <- err
	}))["in-process"]
	for _, path := range []string{"/read", "/write"} {
		pr, pw := io.Pipe()
		resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPost, "http://orders"+path, pr))
		if got := <-errs; !errors.Is(got, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the handler saw %v, want %v", path, got, os.ErrDeadlineExceeded)
		}
		if err == nil {
			resp.Body.Close()
		}
		pw.Close()
	}
}

func TestInformationComesBeforeAnswersOnAllWays(t *testing.T) {
	onAll(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "</other.css>")
		w.WriteHeader(http.StatusProcessing)
		if r.ContentLength > 5 {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		io.Copy(w, r.Body)
	}, func(t *testing.T, tr *Transport) {
		for _, body := range []string{"hello", "too long"} {
			var seen []string
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got100Continue: func() { seen = append(seen, "100") },
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					if code != 100 {
						seen = append(seen, fmt.Sprint(code, h["Link"]))
					}
					return nil
				},
				GotFirstResponseByte: func() {},
			})
			read := false
			req := request(ctx, t, http.MethodPost, "http://orders/", nil)
			req.ContentLength = int64(len(body))
			req.Body = io.NopCloser(io.TeeReader(strings.NewReader(body), writeFunc(func() { read = true })))
			req.Header.Set("Expect", "100-continue")
			base := tr.pool.Clone()
			base.ExpectContinueTimeout = time.Minute
			own := NewTransport(tr.mesh, base)
			own.Handlers = tr.Handlers
			resp, err := own.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			want := []string{"103 [</style.css>]", "102 [</other.css>]", "100"}
			if body != "hello" {
				want = want[:2]
			}
			if !slices.Equal(seen, want) {
				t.Errorf("%q: information %q, want %q", body, seen, want)
			}
			if want := body == "hello"; read != want {
				t.Errorf("%q: the body was read: %t, want %t", body, read, want)
			}
			own.CloseIdleConnections()
		}
	})
}

type writeFunc func()

func (f writeFunc) Write(p []byte) (int, error) { f(); return len(p), nil }

// What the caller has left of its time reaches the handler of a server, in whatever way.
func TestDeadlinesReachHandlersOnAllWays(t *testing.T) {
	end := time.Now().Add(time.Hour)
	onAll(t, NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, ok := r.Context().Deadline()
		fmt.Fprint(w, ok && at.After(end.Add(-time.Minute*10)) && at.Before(end.Add(time.Minute*10)))
	}), HandlerOptions{}).ServeHTTP, func(t *testing.T, tr *Transport) {
		ctx, cancel := context.WithDeadline(t.Context(), end)
		defer cancel()
		resp, err := tr.RoundTrip(request(ctx, t, http.MethodGet, "http://orders/", nil))
		if got := read(t, resp, err); got != "true" {
			t.Error("the handler does not have the deadline of its caller")
		}
	})
}
