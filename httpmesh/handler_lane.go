package httpmesh

import (
	"net/http"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/internal/baggage"
)

// lane takes note of the lane of a request and returns the headers that the service is to see.
func (h *Handler) lane(a *reply, header http.Header) http.Header {
	carried := header[BaggageHeader]
	if !h.o.IgnoreLane {
		if carried != nil {
			a.inbound.Lane = zerohop.LaneIn(carried)
		}
		return header
	}
	a.inbound.IgnoreLane = true
	if !baggage.Has(carried, zerohop.LaneKey) {
		return header
	}
	own := headers{req: &http.Request{Header: header}} // those of the server stay as they are
	own.set(BaggageHeader, baggage.Delete(carried, zerohop.LaneKey))
	return own.req.Header
}
