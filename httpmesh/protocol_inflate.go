package httpmesh

import (
	"bytes"
	"compress/gzip"
	"io"
	"sync"
)

// inflaters are kept, because one takes 40 kB and reads a few bytes.
var inflaters sync.Pool // of *gzip.Reader

// inflate returns data as it was before it was encoded. It is false for encodings other than gzip, which is what
// connect-go and gRPC have built in, and if there is more of it than limit.
func inflate(data []byte, encoding string, limit int64) ([]byte, bool) {
	switch encoding {
	case "", "identity":
		return data, true
	case "gzip":
	default:
		return nil, false
	}
	z, ok := inflaters.Get().(*gzip.Reader)
	if !ok {
		z = new(gzip.Reader)
	}
	defer inflaters.Put(z)
	if z.Reset(bytes.NewReader(data)) != nil {
		return nil, false
	}
	text, err := io.ReadAll(io.LimitReader(z, limit+1))
	return text, err == nil && int64(len(text)) <= limit
}
