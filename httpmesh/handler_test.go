package httpmesh

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
)

func TestHandlerSetsTheDeadlineOfTheCaller(t *testing.T) {
	for _, tt := range []struct {
		name    string
		header  []string
		server  time.Duration // that the server allows
		minTime time.Duration
		want    time.Duration // 0: no deadline; negative: refused
	}{
		{"none", nil, 0, 0, 0},
		{"some", []string{"250"}, 0, 0, 250 * time.Millisecond},
		{"one that the server shortens", []string{"250"}, 100 * time.Millisecond, 0, 100 * time.Millisecond},
		{"one that shortens that of the server", []string{"250"}, time.Second, 0, 250 * time.Millisecond},
		{"none but that of the server", nil, time.Second, 0, time.Second},
		{"expired", []string{"0"}, 0, 0, -1},
		{"too little", []string{"49"}, 0, 50 * time.Millisecond, -1},
		{"just enough", []string{"50"}, 0, 50 * time.Millisecond, 50 * time.Millisecond},
		{"a month", []string{"2592000000"}, 0, 0, 24 * time.Hour},
		{"more than an int64", []string{"99999999999999999999999"}, 0, 0, 24 * time.Hour},
		{"negative", []string{"-5"}, 0, 0, 0},
		{"with a unit", []string{"5s"}, 0, 0, 0},
		{"empty", []string{""}, 0, 0, 0},
		{"two of them", []string{"5", "6"}, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ran := false
				var ctx context.Context
				h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					ran, ctx = true, r.Context()
					var got time.Duration
					if d, ok := ctx.Deadline(); ok {
						got = time.Until(d)
					}
					if got != tt.want {
						t.Errorf("time left = %v, want %v", got, tt.want)
					}
				}), HandlerOptions{MinTime: tt.minTime})
				req := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
				if tt.server > 0 {
					ctx, cancel := context.WithTimeout(t.Context(), tt.server)
					defer cancel()
					req = req.WithContext(ctx)
				}
				req.Header[TimeoutHeader] = tt.header
				w := httptest.NewRecorder()
				h.ServeHTTP(w, req)
				code, mark := http.StatusOK, ""
				if tt.want < 0 {
					code, mark = http.StatusGatewayTimeout, noTime
				}
				if ran != (tt.want >= 0) || w.Code != code || w.Header().Get(NoRetryHeader) != mark {
					t.Errorf("ran = %v, status %d, %s %q; want status %d, %q", ran, w.Code, NoRetryHeader, w.Header().Get(NoRetryHeader), code, mark)
				}
				if len(tt.header) == 1 && tt.want > 0 && ctx.Err() == nil {
					t.Errorf("the context outlives the request")
				}
				if got := h.InFlight(); got != 0 {
					t.Errorf("InFlight() = %d, want 0", got)
				}
			})
		})
	}
}

// A server that has repeated its own calls in vain says so, however it writes its answer.
func TestHandlerAsksForNoRetry(t *testing.T) {
	m := open(t, zerohop.Config{Resolver: fakes(3), Spec: zerohop.Spec{Defaults: zerohop.Policy{Budget: zerohop.Budget{Mode: zerohop.Off}}}})
	call := func(r *http.Request) {
		busy := answer(503, "busy")
		resp, err := get(r.Context(), t, NewTransport(m, inTurn(busy, busy, busy)), "http://orders/")
		read(t, resp, err)
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			call(r)
			w.WriteHeader(code)
		}
	}
	for name, tt := range map[string]struct {
		h    http.HandlerFunc
		want string
	}{
		"200":      {status(200), ""},
		"404":      {status(404), ""},
		"429":      {status(429), "1"},
		"500":      {status(500), "1"},
		"502":      {status(502), "1"},
		"503":      {status(503), "1"},
		"504":      {status(504), "1"},
		"no calls": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }, ""},
		"early hints first": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			call(r)
			w.WriteHeader(503)
		}, "1"},
		"nothing copied first": {func(w http.ResponseWriter, r *http.Request) {
			call(r)
			io.Copy(w, io.LimitReader(strings.NewReader(""), 1)) // by ReadFrom
			w.WriteHeader(503)
		}, "1"},
		"nothing written": {func(w http.ResponseWriter, r *http.Request) { call(r) }, ""},
		"too late":        {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503); call(r) }, ""},
		"before the answer is read": {func(w http.ResponseWriter, r *http.Request) {
			busy := answer(503, "busy")
			resp, err := get(r.Context(), t, NewTransport(m, inTurn(busy, busy, busy)), "http://orders/")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			w.WriteHeader(resp.StatusCode)
			io.Copy(w, resp.Body)
		}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, NewHandler(tt.h, HandlerOptions{}).ServeHTTP)
			resp, err := get(t.Context(), t, s.Client().Transport, s.URL)
			read(t, resp, err)
			if got := resp.Header.Get(NoRetryHeader); got != tt.want {
				t.Errorf("%s = %q, want %q", NoRetryHeader, got, tt.want)
			}
		})
	}
}

func TestHandlerOfNothingIsTheDefault(t *testing.T) {
	w := httptest.NewRecorder()
	NewHandler(nil, HandlerOptions{}).ServeHTTP(w, httptest.NewRequest("GET", "/nothing/is/here", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("status %d, want %d", w.Code, http.StatusNotFound)
	}
}

func TestHandlerReportsLoad(t *testing.T) {
	var cpu float64
	for _, body := range []string{"ok", ""} {
		h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if body != "" {
				io.WriteString(w, body)
			}
		}), HandlerOptions{Load: func() LoadReport { return LoadReport{CPU: cpu} }})
		s := serve(t, h.ServeHTTP)
		for _, tt := range []struct {
			cpu  float64
			want string
		}{{0.5, "TEXT cpu_utilization=0.5"}, {0, ""}} {
			cpu = tt.cpu
			resp, err := get(t.Context(), t, s.Client().Transport, s.URL)
			if got := read(t, resp, err); resp.Header.Get(LoadHeader) != tt.want || got != body {
				t.Errorf("%s = %q, body %q, want %q", LoadHeader, resp.Header.Get(LoadHeader), got, tt.want)
			}
		}
	}
}

func TestHandlerLetsPanicsPass(t *testing.T) {
	h := NewHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }), HandlerOptions{})
	func() {
		defer func() {
			if got, want := recover(), any(http.ErrAbortHandler); got != want {
				t.Errorf("panic = %v, want %v", got, want)
			}
		}()
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}()
	if got := h.InFlight(); got != 0 {
		t.Errorf("InFlight() = %d, want 0", got)
	}
	s := serve(t, h.ServeHTTP)
	if _, err := get(t.Context(), t, s.Client().Transport, s.URL); !errors.Is(err, io.EOF) {
		t.Errorf("error = %v, want %v", err, io.EOF)
	}
}

// The server deletes the files of a form when the request is over, and handlers around see the pattern that matched,
// though next works on a copy of the request.
func TestHandlerHandsTheRequestBack(t *testing.T) {
	form := &strings.Builder{}
	parts := multipart.NewWriter(form)
	part, err := parts.CreateFormFile("file", "name")
	if err != nil {
		t.Fatal(err)
	}
	part.Write(make([]byte, 1<<20))
	parts.Close()

	var name, pattern string
	mux := http.NewServeMux()
	mux.HandleFunc("POST /upload/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(1); err != nil {
			t.Error(err)
			return
		}
		f, err := r.MultipartForm.File["file"][0].Open()
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		file, ok := f.(*os.File)
		if !ok {
			t.Errorf("file of the form is a %T", f)
			return
		}
		name = file.Name()
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	})
	h := NewHandler(mux, HandlerOptions{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		pattern = r.Pattern
	}))
	s.Start()
	req := request(t.Context(), t, "POST", s.URL+"/upload/7", strings.NewReader(form.String()))
	req.Header.Set("Content-Type", parts.FormDataContentType())
	resp, err := s.Client().Transport.RoundTrip(req)
	read(t, resp, err)
	s.Close() // and so the server is done with the request
	if name == "" || pattern != "POST /upload/{id}" {
		t.Errorf("file %q, pattern %q", name, pattern)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("file of the form is still there: %v", err)
	}
}
