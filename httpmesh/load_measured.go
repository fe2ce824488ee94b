package httpmesh

import (
	"net/http"
	"time"

	"github.com/zerohop/zerohop/internal/orca"
)

// timing is what is measured of a request.
type timing struct {
	meter    *orca.Meter // nil if nothing is
	asked    bool        // the client wants to know
	began    time.Time
	inflight int // other requests when it began
}

// time begins to measure a request, the one that was started as the given one. m is the meter, nil if there is none yet.
func (a *reply) time(m *orca.Meter, asked bool, started int64) {
	h := a.handler
	if m == nil {
		m = h.measured()
	}
	a.timing = timing{meter: m, asked: asked, began: time.Now(), inflight: int(started-h.ended.Load()) - 1}
}

// measured returns the meter, made if there is none yet.
func (h *Handler) measured() *orca.Meter {
	if h.meter.Load() == nil {
		h.meter.CompareAndSwap(nil, orca.NewMeter())
	}
	return h.meter.Load()
}

// report adds the load of the server to the header of an answer with the given status.
func (a *reply) report(header http.Header, code int) {
	var now time.Time
	if a.meter != nil {
		now = time.Now()
		a.meter.Observe(now, a.inflight, max(now.Sub(a.began), 1), code == http.StatusTooManyRequests || code >= 500)
	}
	if m := a.meter; m == nil || !a.asked {
		a.handler.load(header, nil, now, 0)
	} else {
		a.handler.load(header, m, now, a.handler.InFlight())
	}
}

// load adds the load of the server to a header: what the service says of it, and what m has measured if it is not nil.
func (h *Handler) load(header http.Header, m *orca.Meter, now time.Time, inflight int) {
	var r LoadReport
	if h.o.Load != nil {
		r = h.o.Load()
	}
	var latency time.Duration
	if m != nil {
		latency = m.Latency(now, inflight-1)
		rates := m.Rates(now)
		fill(&r.Requests, rates.Requests)
		fill(&r.Errors, rates.Errors)
		fill(&r.CPU, rates.CPU)
	}
	if v := r.text(inflight, latency); v != "" {
		header[LoadHeader] = []string{v}
	}
}

// fill sets a figure that the service has left out.
func fill(figure *float64, measured float64) {
	if *figure == 0 {
		*figure = measured
	}
}

// tell answers a request for the load. It is no request to the service, so it is neither counted nor measured.
func (h *Handler) tell(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	h.load(header, h.measured(), time.Now(), h.InFlight()+1)
	if h.isDraining() && r.ProtoMajor < 3 {
		header.Set("Connection", "close")
	}
	w.WriteHeader(http.StatusNoContent)
}
