package console

import (
	"net/http"
	"net/url"
	"strconv"
)

// How many there are of what views are limited to: by default and at most.
const (
	endpointsShown, maxEndpointsShown = 200, 1000
	eventsShown, maxEventsShown       = 200, MaxEvents
	failuresShown, maxFailuresShown   = 50, 200
)

// serveView answers a request for a view.
func (c *Console) serveView(w http.ResponseWriter, r *http.Request, view string) {
	if len(r.URL.RawQuery) > 8<<10 {
		refuse(w, http.StatusRequestURITooLong, "the query is too long")
		return
	}
	q := r.URL.Query()
	mesh, service := q.Get("mesh"), q.Get("service")
	of := func(n *ServiceName) bool {
		return (mesh == "" || n.Mesh == mesh) && (service == "" || n.Service == service)
	}
	switch view {
	case "summary":
		s := c.summary()
		if service != "" || mesh != "" {
			list := []ServiceLine{}
			for i := range s.Services {
				if of(&s.Services[i].ServiceName) {
					list = append(list, s.Services[i])
				}
			}
			s.Services = list
		}
		reply(w, http.StatusOK, s)
	case "service":
		limit, ok := number(q, "limit", endpointsShown, maxEndpointsShown)
		if !ok || service == "" {
			refuse(w, http.StatusBadRequest, "needs the parameter service; limit is a number")
			return
		}
		v, ok := c.service(mesh, service, limit)
		answer(w, v, ok)
	case "policy":
		v, ok := c.policyView(mesh, service, q.Get("policy"))
		answer(w, v, ok)
	case "routes":
		reply(w, http.StatusOK, c.routesView(mesh, service))
	case "failures":
		after, ok := number(q, "after", 0, 1<<62)
		limit, ok2 := number(q, "limit", failuresShown, maxFailuresShown)
		if !ok || !ok2 {
			refuse(w, http.StatusBadRequest, "after and limit are numbers")
			return
		}
		reply(w, http.StatusOK, c.failuresView(uint64(after), limit, of))
	case "events":
		after, ok := number(q, "after", 0, 1<<62)
		limit, ok2 := number(q, "limit", eventsShown, maxEventsShown)
		if !ok || !ok2 {
			refuse(w, http.StatusBadRequest, "after and limit are numbers")
			return
		}
		reply(w, http.StatusOK, EventsView{c.timeline.after(uint64(after), limit, func(e *Event) bool { return of(&e.ServiceName) })})
	case "topology":
		reply(w, http.StatusOK, c.topology(mesh, service))
	case "stream":
		c.stream(w, r, mesh, service, q)
	default:
		refuse(w, http.StatusNotFound, "there is no such view")
	}
}

// number returns the parameter of that name, at most most, and false if it is none.
func number(q url.Values, name string, otherwise, most int) (int, bool) {
	s := q.Get(name)
	if s == "" {
		return otherwise, true
	}
	n, err := strconv.Atoi(s)
	return min(n, most), err == nil && n >= 0
}

func answer(w http.ResponseWriter, v any, ok bool) {
	if !ok {
		refuse(w, http.StatusNotFound, "there is no such service or policy")
		return
	}
	reply(w, http.StatusOK, v)
}

func (c *Console) failuresView(after uint64, limit int, of func(*ServiceName) bool) FailuresView {
	list := c.failures.after(after, limit, func(k *kept) bool {
		n := ServiceName{k.mesh, name(k.e.Service)}
		return of == nil || of(&n)
	})
	v := FailuresView{Failures: make([]Failure, len(list))}
	for i := range list {
		v.Failures[i] = list[i].view()
	}
	return v
}
