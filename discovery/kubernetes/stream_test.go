package kubernetes

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/kubeapi"
)

// A list is to be at least as new as what the stream before it has told.
func TestListAfterStreamAsksForItsVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		c := client(func(w http.ResponseWriter, req *http.Request) {
			q := req.URL.Query()
			asked = append(asked, q.Get("watch")+q.Get("resourceVersionMatch")+q.Get("resourceVersion"))
			switch {
			case !watching(req):
				sendList(w, "5", slice("a", "192.0.2.1"))
			case len(asked) < 4:
				last := slice("")
				last.ResourceVersion = "9"
				sendEvent(w, watch.Bookmark, last)
			default:
				hang(w, req)
			}
		})
		_, _ = watchFor(t, 8*time.Second, Resolver{Client: c})
		compare(t, asked, "", "true5", "NotOlderThan9", "true5")
	})
}

// The bound is of one event; a stream has none.
func TestLongStreamIsRead(t *testing.T) {
	for _, media := range []string{kubeapi.JSONType, kubeapi.ProtobufType} {
		s := slice("a", "192.0.2.1")
		s.Annotations = map[string]string{"a": strings.Repeat("x", kubeapi.MaxEvent/4)}
		stream := slices.Repeat(frame(t, media, watch.Modified, &s), 6)
		got := 0
		_, err := kubeapi.Events(response(media, stream), "5",
			func(*discoveryv1.EndpointSlice, bool) error { got++; return nil })
		if got != 6 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d events, then %v, want 6, %v", media, got, err, io.EOF)
		}
	}
}

// A timer may have fired when the watch ends.
func TestNothingIsToldAfterClose(t *testing.T) {
	p := &publisher{update: func([]discovery.Endpoint) { t.Error("update after close") }}
	p.close()
	p.due()
	if err := p.change(func(*merged) error { return nil }); err != nil {
		t.Error(err)
	}
}
