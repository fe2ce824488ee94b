package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	restwatch "k8s.io/client-go/rest/watch"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/httpstatus"
	"github.com/zerohop/zerohop/internal/pace"
)

const (
	// relistTime is how long a stream lasts, give or take a fifth, before all is listed again: what a server has
	// lost from a stream, or an older server has shown, is mended then. Ten times less would be
	// noticed by API servers of large clusters.
	relistTime = 10 * time.Minute
	// PlainTime is the same for a connection without the pings of HTTP/2, on which only the next answer shows that
	// the server still lives. With AnswerTime a dead one is found within 40 s.
	PlainTime = 30 * time.Second
	// MaxEvent bounds one event: etcd takes no objects above 1.5 MiB.
	MaxEvent = 4 << 20
)

// Resource is what is listed and watched.
type Resource struct {
	What  string // for errors
	Path  []string
	Query url.Values // which of the objects
}

func (r Resource) query() url.Values {
	q := url.Values{}
	maps.Copy(q, r.Query)
	return q
}

// Watch lists the objects of r and follows their changes until ctx ends or something fails that is not the end of a stream or of the
// history of the server. It calls replace with each list, which is a consistent read or as new as what it has seen before,
// and change with each object that changed, exists or not. Their errors end it. L and T are the types of the
// list and its objects, one of Codecs.
func Watch[L metav1.ListInterface, T metav1.Object](ctx context.Context, c *Client, r Resource, replace func(L) error, change func(object T, exists bool) error) error {
	var pacer pace.Pacer
	version := "" // the newest one that is known, if that may be asked for
	for {
		if err := pacer.Wait(ctx); err != nil {
			return err
		}
		list, err := list[L](ctx, c, r, version)
		if version != "" && (outdated(err) || ahead(err)) {
			version = ""
			continue
		}
		if err != nil {
			return err
		}
		if err := replace(list); err != nil {
			return err
		}
		if err := pacer.Wait(ctx); err != nil {
			return err
		}
		version, err = follow(ctx, c, r, list.GetResourceVersion(), change)
		switch {
		case outdated(err):
			version = ""
		case err != nil:
			return err
		}
	}
}

// list returns the objects of r: as they are now, or at least as new as version if it is not empty, which
// costs servers before Kubernetes 1.31 less.
func list[L metav1.ListInterface](ctx context.Context, c *Client, r Resource, version string) (objects L, err error) {
	bounded, cancel := context.WithTimeoutCause(ctx, AnswerTime, fmt.Errorf("no answer within %v", AnswerTime))
	defer cancel()
	query := r.query()
	if version != "" {
		query.Set("resourceVersion", version)
		query.Set("resourceVersionMatch", string(metav1.ResourceVersionMatchNotOlderThan))
	}
	what := "list of " + r.What
	objects, err = func() (none L, err error) {
		resp, err := c.Get(bounded, what, r.Path, query, ProtobufType+","+JSONType)
		if err != nil {
			return none, err
		}
		defer resp.Body.Close()
		list, err := ParseList[L](resp)
		if err != nil {
			return none, c.unread(what, resp, err)
		}
		return list, nil
	}()
	switch {
	case ctx.Err() != nil:
		return objects, ctx.Err()
	case err != nil && bounded.Err() != nil:
		return objects, c.Explain(what, context.Cause(bounded))
	}
	return objects, err
}

// ParseList reads a list.
func ParseList[L metav1.ListInterface](resp *http.Response) (none L, err error) {
	data, err := Read(resp.Body, MaxAnswer)
	if err != nil {
		return none, err
	}
	info, err := serializerOf(resp)
	if err != nil {
		return none, err
	}
	obj, _, err := info.Serializer.Decode(data, nil, nil)
	if err != nil {
		return none, fmt.Errorf("answer of %d bytes: %.200q", len(data), err.Error())
	}
	switch obj := any(obj).(type) {
	case L:
		return obj, nil
	case *metav1.Status:
		return none, &httpstatus.Error{Code: int(obj.Code), Text: obj.Message}
	}
	return none, fmt.Errorf("the answer is a %T", obj)
}

// follow hands on the changes after version until the stream ends, which is no error. It returns the version it has
// come to.
func follow[T metav1.Object](ctx context.Context, c *Client, r Resource, version string, change func(T, bool) error) (string, error) {
	what := "watch of " + r.What
	last := relistTime - relistTime/5 + rand.N(2*relistTime/5)
	query := r.query()
	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("resourceVersion", version)
	query.Set("timeoutSeconds", strconv.Itoa(int(last.Seconds())))

	own, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	errLate := fmt.Errorf("no answer within %v", AnswerTime)
	errOver := errors.New("the stream has lasted its time")
	begin := time.AfterFunc(AnswerTime, func() { cut(errLate) })
	defer begin.Stop()

	resp, err := c.Get(own, what, r.Path, query, ProtobufType+";stream=watch,"+JSONType)
	if err == nil {
		defer resp.Body.Close()
		if begin.Stop() {
			if resp.ProtoMajor < 2 {
				last = PlainTime
			}
			end := time.AfterFunc(last, func() { cut(errOver) })
			defer end.Stop()
			version, err = Events(resp, version, change)
		}
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(context.Cause(own), errOver), resp != nil && errors.Is(err, io.EOF):
		return version, nil
	case own.Err() != nil:
		return "", c.Explain(what, context.Cause(own))
	case resp != nil:
		return "", c.unread(what, resp, err)
	}
	return "", err
}

// unread says why an answer could not be used. If the server meant it so, that is a refusal.
func (c *Client) unread(what string, resp *http.Response, err error) error {
	if _, ok := errors.AsType[*httpstatus.Error](err); ok || errors.Is(err, ErrTooLarge) {
		return c.refused(what, resp.Header, err)
	}
	if _, ok := errors.AsType[*discovery.RefusedError](err); ok { // of a change that could not be taken over
		return err
	}
	return c.Explain(what, err)
}

// Events reads the events of a stream and hands them on. It returns the last version it has seen, and why it ended: io.EOF if
// the server has closed the stream between events.
func Events[T metav1.Object](resp *http.Response, version string, change func(object T, exists bool) error) (string, error) {
	info, err := serializerOf(resp)
	if err != nil {
		return version, err
	}
	body := &boundedBody{ReadCloser: resp.Body, left: MaxEvent}
	frames := info.StreamSerializer.Framer.NewFrameReader(body)
	stream := restwatch.NewDecoder(streaming.NewDecoder(frames, info.StreamSerializer.Serializer), Codecs.UniversalDeserializer())
	for {
		kind, obj, err := stream.Decode()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ErrTooLarge):
			return version, err
		case err != nil:
			return version, fmt.Errorf("%.200q", err.Error())
		}
		body.left = MaxEvent
		if version, err = event(kind, obj, version, change); err != nil {
			return version, err
		}
	}
}

// event hands on one event and returns the version after it.
func event[T metav1.Object](kind watch.EventType, obj runtime.Object, version string, change func(T, bool) error) (string, error) {
	switch obj := any(obj).(type) {
	case *metav1.Status:
		return version, &httpstatus.Error{Code: int(obj.Code), Text: obj.Message}
	case T:
		if kind != watch.Bookmark {
			if err := change(obj, kind != watch.Deleted); err != nil {
				return version, err
			}
		}
		return obj.GetResourceVersion(), nil
	}
	return version, fmt.Errorf("an event with a %T", obj)
}

// boundedBody fails once more than left bytes were read.
type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
