package httpmesh

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"time"
)

// upload is the body of a request. It notes what its owner did wrong, which net/http reports like a broken connection,
// and how long he kept the endpoint waiting: neither must be held against it.
type upload struct {
	io.ReadCloser
	length int64 // the announced one, 0 or less if there is none
	read   int64
	closed atomic.Bool
	broken atomic.Bool // it failed, or is not as long as announced

	base   time.Time
	waited atomic.Int64 // in reads that are over
	since  atomic.Int64 // when the present one began, 0 if there is none
}

// observed returns the body of the request as an upload. What can neither fail nor block stays what it is: net/http lets
// the kernel send files, and sends what is in memory together with the head.
func observed(req *http.Request) io.ReadCloser {
	if _, file := req.Body.(*os.File); file || req.Body == nil || req.Body == http.NoBody || inMemory(req) {
		return req.Body
	}
	return &upload{ReadCloser: req.Body, length: req.ContentLength, base: time.Now()}
}

// inMemory reports whether the body is one that http.NewRequest makes of memory, and as long as announced.
func inMemory(req *http.Request) bool {
	var length int
	switch r := unwrapped(req.Body).(type) {
	case *bytes.Reader:
		length = r.Len()
	case *strings.Reader:
		length = r.Len()
	case *bytes.Buffer:
		length = r.Len()
	default:
		return false
	}
	return req.GetBody != nil && int64(length) == req.ContentLength
}

// nopClosers are the types that io.NopCloser returns: for plain readers, and for those that have WriteTo.
var nopClosers = [2]reflect.Type{
	reflect.TypeOf(io.NopCloser(struct{ io.Reader }{})),
	reflect.TypeOf(io.NopCloser(new(bytes.Reader))),
}

// unwrapped returns what io.NopCloser was given, if it made the body: net/http looks at that in the same way.
func unwrapped(body io.ReadCloser) any {
	if t := reflect.TypeOf(body); t == nopClosers[0] || t == nopClosers[1] {
		return reflect.ValueOf(body).Field(0).Interface()
	}
	return body
}

func (u *upload) Read(p []byte) (int, error) {
	start := max(time.Since(u.base), 1)
	u.since.Store(int64(start))
	n, err := u.ReadCloser.Read(p)
	u.since.Store(0)
	u.waited.Add(int64(time.Since(u.base) - start))
	u.read += int64(n)
	wrong := u.length > 0 && (u.read > u.length || err == io.EOF && u.read < u.length)
	if (wrong || err != nil && err != io.EOF) && !u.closed.Load() { // net/http closes it when a connection breaks
		u.broken.Store(true)
	}
	return n, err
}

func (u *upload) Close() error {
	if u.closed.Swap(true) {
		return nil
	}
	return u.ReadCloser.Close()
}

// spoiled reports whether the caller's body is why the request failed.
func spoiled(req *http.Request) bool {
	u, ok := req.Body.(*upload)
	return ok && u.broken.Load()
}

// idle returns how long the request has waited for the caller's body.
func idle(req *http.Request) time.Duration {
	u, ok := req.Body.(*upload)
	if !ok {
		return 0
	}
	d := time.Duration(u.waited.Load())
	if since := time.Duration(u.since.Load()); since > 0 {
		d += time.Since(u.base) - since
	}
	return d
}

// canceled reports whether the caller closed Request.Cancel. http.Client.Timeout does that at the deadline of the
// context, whose end may be noticed a moment later: then canceled waits for it, so that it counts as what ended the
// request.
func canceled(req *http.Request) bool {
	select {
	//lint:ignore SA1019 http.Client uses it
	case <-req.Cancel:
	default:
		return false
	}
	ctx := req.Context()
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		<-ctx.Done()
	}
	return true
}
