package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/watch"
	restwatch "k8s.io/client-go/rest/watch"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// relistTime is how long a stream lasts, give or take a fifth, before all is listed again: what a server has
	// lost from a stream, or an older server has shown, is mended then. Ten times less would be
	// noticed by API servers of large clusters.
	relistTime = 10 * time.Minute
	// plainTime is the same for a connection without the pings of HTTP/2, on which only the next answer shows that
	// the server still lives. With answerTime a dead one is found within 40 s.
	plainTime = 30 * time.Second
	// maxEvent bounds one event: etcd takes no objects above 1.5 MiB.
	maxEvent = 4 << 20
)

// target is a service in the terms of Kubernetes.
type target struct {
	name, namespace, port string
}

func (t target) String() string {
	return fmt.Sprintf("EndpointSlices of %q in namespace %q", t.name, t.namespace)
}

// has reports whether slice is one of the target. A server that does not know label selectors sends all.
func (t target) has(slice *discoveryv1.EndpointSlice) bool {
	return slice.Namespace == t.namespace && slice.Labels[discoveryv1.LabelServiceName] == t.name
}

func (t target) path() []string {
	return []string{"apis/discovery.k8s.io/v1/namespaces", t.namespace, "endpointslices"}
}

func (t target) query() url.Values {
	return url.Values{"labelSelector": {discoveryv1.LabelServiceName + "=" + t.name}}
}

// check refuses names that no object can have and that would change the request.
func (t target) check() error {
	if errs := validation.NameIsDNSLabel(t.namespace, false); len(errs) > 0 {
		return fmt.Errorf("kubernetes: namespace %.100q: %s", t.namespace, errs[0])
	}
	if errs := validation.NameIsDNSLabel(t.name, false); len(errs) > 0 {
		return fmt.Errorf("kubernetes: name of the service %.100q: %s", t.name, errs[0])
	}
	return nil
}

// list returns the slices of the target: as they are now, or at least as new as version if it is not empty, which
// costs servers before Kubernetes 1.31 less.
func (c *Client) list(ctx context.Context, t target, version string) (*discoveryv1.EndpointSliceList, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, answerTime, fmt.Errorf("no answer within %v", answerTime))
	defer cancel()
	query := t.query()
	if version != "" {
		query.Set("resourceVersion", version)
		query.Set("resourceVersionMatch", string(metav1.ResourceVersionMatchNotOlderThan))
	}
	what := "list of " + t.String()
	list, err := func() (*discoveryv1.EndpointSliceList, error) {
		resp, err := c.get(bounded, what, t.path(), query, protobufType+","+jsonType)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		list, err := parseList(resp)
		if err != nil {
			return nil, c.unread(what, resp, err)
		}
		return list, nil
	}()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && bounded.Err() != nil:
		return nil, c.explain(what, context.Cause(bounded))
	}
	return list, err
}

func parseList(resp *http.Response) (*discoveryv1.EndpointSliceList, error) {
	data, err := read(resp.Body, maxAnswer)
	if err != nil {
		return nil, err
	}
	info, err := serializerOf(resp)
	if err != nil {
		return nil, err
	}
	obj, _, err := info.Serializer.Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("answer of %d bytes: %.200q", len(data), err.Error())
	}
	switch obj := obj.(type) {
	case *discoveryv1.EndpointSliceList:
		return obj, nil
	case *metav1.Status:
		return nil, &statusError{code: int(obj.Code), text: obj.Message}
	}
	return nil, fmt.Errorf("the answer is a %T", obj)
}

// follow hands on the changes after version until the stream ends, which is no error. It returns the version it has
// come to.
func (c *Client) follow(ctx context.Context, t target, version string, change func(*discoveryv1.EndpointSlice, bool) error) (string, error) {
	what := "watch of " + t.String()
	last := relistTime - relistTime/5 + rand.N(2*relistTime/5)
	query := t.query()
	query.Set("watch", "true")
	query.Set("allowWatchBookmarks", "true")
	query.Set("resourceVersion", version)
	query.Set("timeoutSeconds", strconv.Itoa(int(last.Seconds())))

	own, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	errLate := fmt.Errorf("no answer within %v", answerTime)
	errOver := errors.New("the stream has lasted its time")
	begin := time.AfterFunc(answerTime, func() { cut(errLate) })
	defer begin.Stop()

	resp, err := c.get(own, what, t.path(), query, protobufType+";stream=watch,"+jsonType)
	if err == nil {
		defer resp.Body.Close()
		if begin.Stop() {
			if resp.ProtoMajor < 2 {
				last = plainTime
			}
			end := time.AfterFunc(last, func() { cut(errOver) })
			defer end.Stop()
			version, err = events(resp, version, t, change)
		}
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(context.Cause(own), errOver), resp != nil && errors.Is(err, io.EOF):
		return version, nil
	case own.Err() != nil:
		return "", c.explain(what, context.Cause(own))
	case resp != nil:
		return "", c.unread(what, resp, err)
	}
	return "", err
}

// unread says why an answer could not be used. If the server meant it so, that is a refusal.
func (c *Client) unread(what string, resp *http.Response, err error) error {
	if _, ok := errors.AsType[*statusError](err); ok || errors.Is(err, errTooLarge) {
		return c.refused(what, resp.Header, err)
	}
	if _, ok := errors.AsType[*discovery.RefusedError](err); ok { // of a change that could not be taken over
		return err
	}
	return c.explain(what, err)
}

// events reads the events of a stream and hands them on. It returns the last version it has seen, and why it ended: io.EOF if
// the server has closed the stream between events.
func events(resp *http.Response, version string, t target, change func(*discoveryv1.EndpointSlice, bool) error) (string, error) {
	info, err := serializerOf(resp)
	if err != nil {
		return version, err
	}
	body := &boundedBody{ReadCloser: resp.Body, left: maxEvent}
	frames := info.StreamSerializer.Framer.NewFrameReader(body)
	stream := restwatch.NewDecoder(streaming.NewDecoder(frames, info.StreamSerializer.Serializer), codecs.UniversalDeserializer())
	for {
		kind, obj, err := stream.Decode()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errTooLarge):
			return version, err
		case err != nil:
			return version, fmt.Errorf("%.200q", err.Error())
		}
		body.left = maxEvent
		if version, err = event(kind, obj, version, t, change); err != nil {
			return version, err
		}
	}
}

// event hands on one event and returns the version after it.
func event(kind watch.EventType, obj runtime.Object, version string, t target, change func(*discoveryv1.EndpointSlice, bool) error) (string, error) {
	switch obj := obj.(type) {
	case *metav1.Status:
		return version, &statusError{code: int(obj.Code), text: obj.Message}
	case *discoveryv1.EndpointSlice:
		if kind != watch.Bookmark {
			if err := change(obj, kind != watch.Deleted && t.has(obj)); err != nil {
				return version, err
			}
		}
		return obj.ResourceVersion, nil
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
		return 0, errTooLarge
	}
	return n, err
}
