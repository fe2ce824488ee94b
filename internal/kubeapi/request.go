package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/httpstatus"
)

// Client talks to an API server. It is safe for concurrent use.
type Client struct {
	HTTP *http.Client
	Base *url.URL
	// TokenFile is read before each request if not empty.
	TokenFile string
}

const (
	// AnswerTime is how long the API server may take for an answer, or to begin a stream. Lists of one service take
	// milliseconds; a server that takes ten seconds is overloaded, and a watch that waits longer for it is blind.
	AnswerTime = 10 * time.Second
	// MaxAnswer bounds an answer and each event of a stream. Slices of 50,000 endpoints fit.
	MaxAnswer = 16 << 20
	// maxStatus bounds what is read of an error.
	maxStatus = 64 << 10
	// maxRetryAfter bounds what a server can ask us to wait.
	maxRetryAfter = time.Minute

	ProtobufType = "application/vnd.kubernetes.protobuf"
	JSONType     = "application/json"
)

// ErrTooLarge stands for an answer above MaxAnswer, or an event above MaxEvent.
var ErrTooLarge = errors.New("the answer is larger than 16 MiB")

// Codecs knows the only types that the module asks for. The scheme of client-go knows all of Kubernetes, which makes
// programs larger by 10 MB.
var Codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	scheme.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.ConfigMap{}, &corev1.ConfigMapList{})
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(scheme)
}()

// Get makes a request. The body of the response ends with ctx. Any answer but 200 is a *discovery.RefusedError.
func (c *Client) Get(ctx context.Context, what string, path []string, query url.Values, accept string) (*http.Response, error) {
	address := c.Base.JoinPath(path...)
	address.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %s: %w", what, err)
	}
	req.Header.Set("Accept", accept)
	if c.TokenFile != "" {
		token, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("kubernetes: token file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		if requested, ok := errors.AsType[*url.Error](err); ok {
			err = requested.Err // the URL only repeats what we say
		}
		return nil, c.Explain(what, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(what, resp.Header, readStatus(resp))
}

// Explain says what was asked of whom.
func (c *Client) Explain(what string, err error) error {
	return fmt.Errorf("kubernetes: %s at %s: %w", what, c.Base.Host, err)
}

func (c *Client) refused(what string, header http.Header, err error) error {
	code := httpstatus.Of(err)
	return &discovery.RefusedError{
		After:  retryAfter(header.Get("Retry-After"), time.Now()),
		Denied: code == http.StatusUnauthorized || code == http.StatusForbidden,
		Err:    c.Explain(what, err),
	}
}

// Read reads an answer. Its error is ErrTooLarge if it is larger than limit.
func Read(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, ErrTooLarge
	}
	return data, err
}

// readStatus returns the error that a response holds.
func readStatus(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		body = nil // the code says enough
	}
	text := strings.TrimSpace(string(body))
	if obj, _, err := Codecs.UniversalDeserializer().Decode(body, nil, nil); err == nil {
		if status, ok := obj.(*metav1.Status); ok {
			text = status.Message
		}
	}
	return &httpstatus.Error{Code: resp.StatusCode, Text: text}
}

// outdated reports whether the server has forgotten the resource version that it was asked about.
func outdated(err error) bool { return httpstatus.Of(err) == http.StatusGone }

// ahead reports whether the server may not have come to the resource version that it was asked about.
func ahead(err error) bool { return httpstatus.Of(err) == http.StatusGatewayTimeout }

// retryAfter reads the header of this name: seconds or a date. What cannot be read or lies in the past is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// serializerOf returns the serializer that fits the type of a response.
func serializerOf(resp *http.Response) (runtime.SerializerInfo, error) {
	header := resp.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(header)
	if err != nil {
		return runtime.SerializerInfo{}, fmt.Errorf("content type %q: %w", header, err)
	}
	if media != ProtobufType && media != JSONType {
		return runtime.SerializerInfo{}, fmt.Errorf("content type %q is neither protobuf nor JSON", media)
	}
	info, ok := runtime.SerializerInfoForMediaType(Codecs.SupportedMediaTypes(), media)
	if !ok {
		return info, fmt.Errorf("content type %q is not known", media)
	}
	return info, nil
}
