package httpmesh

import (
	"io"
	"net/http"
	"sync"

	"github.com/zerohop/zerohop"
)

// rewinds lets the attempts of a call share a body whose GetBody does not copy it, as net/http asks for, but rewinds it
// and returns the same one again. connect-go does that. A transport that has not finished with an attempt would take
// from the body of the next, and either might send a message of the right length with the wrong content.
//
// So only the attempt that began last reads; and one joins another only when that has read all.
type rewinds struct {
	mu    sync.Mutex // guards what follows, and is held during reads, which are of memory
	owner *rewound   // who may read
}

// rewound is the body as one attempt sees it.
type rewound struct {
	io.ReadCloser
	rewinds *rewinds
	left    int64 // of what was announced
}

// begin returns the body of an attempt.
func (r *rewinds) begin(req *http.Request, a *zerohop.Attempt) (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body := req.Body
	if a.Number > 0 {
		if a.Backup() && r.owner != nil && r.owner.left > 0 {
			return nil, errNotRepeatable
		}
		var err error
		if body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	r.owner = &rewound{ReadCloser: body, rewinds: r, left: req.ContentLength}
	return r.owner, nil
}

func (b *rewound) Read(p []byte) (int, error) {
	b.rewinds.mu.Lock()
	defer b.rewinds.mu.Unlock()
	if b.rewinds.owner != b {
		if b.left <= 0 {
			return 0, io.EOF // its transport makes sure that there is no more
		}
		return 0, errRetired
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
