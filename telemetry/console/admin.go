package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// AdminConfig is the set-up of an Admin.
type AdminConfig struct {
	// Console is the one whose meshes are acted on. Required.
	Console *Console
	// Authorize says who asks, or returns an error if they may not act. It sees every request that comes from the same site, before its
	// body is read, must be safe for concurrent use, and must not answer itself. Who is empty may not act either, and if it panics nothing
	// is done, but told of. Required: there is no Admin for everybody.
	Authorize func(*http.Request) (who string, err error)
	// Audit is told of every POST that was done or refused, before the answer. It must be safe for concurrent use. nil means that only the
	// timeline of the console and the hooks of the mesh are told.
	Audit func(AuditEvent)
	// MaxDuration is the longest that an action may last. 0 means an hour; the most is zerohop.MaxOperation.
	MaxDuration time.Duration
}

// AuditEvent is what an operator did, or wanted to. Its fields are as they came: escape them.
type AuditEvent struct {
	Time time.Time
	// Who is what Authorize said, empty if it refused. Remote is the address that the request came from.
	Who, Remote string
	// Request is what was asked for, as far as it was read: that of strangers is not.
	Request AdminRequest
	// Err is why it was not done, nil if it was.
	Err error
}

// Admin lets operators act on the meshes of a Console: an http.Handler for POST requests, of its own so that it can be mounted elsewhere
// than the Console, behind whatever guards it. The body is an AdminRequest, the answer an AdminAnswer. Requests from other sites are
// refused, and all actions end by themselves.
type Admin struct {
	cfg    AdminConfig
	origin *http.CrossOriginProtection
}

// maxAdminRequest is how long a request may be: names, an address and a reason.
const maxAdminRequest = 16 << 10

// NewAdmin returns an Admin. The error names the field of every mistake.
func NewAdmin(cfg AdminConfig) (*Admin, error) {
	var errs []error
	if cfg.Console == nil {
		errs = append(errs, errors.New("console: must be set"))
	}
	if cfg.Authorize == nil {
		errs = append(errs, errors.New("authorize: must be set"))
	}
	if cfg.MaxDuration < 0 || cfg.MaxDuration > zerohop.MaxOperation {
		errs = append(errs, fmt.Errorf("maxDuration: must be between 0 and %v, got %v", zerohop.MaxOperation, cfg.MaxDuration))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("console: invalid configuration: %w", err)
	}
	if cfg.MaxDuration == 0 {
		cfg.MaxDuration = time.Hour
	}
	return &Admin{cfg: cfg, origin: http.NewCrossOriginProtection()}, nil
}

// Refusals before anything is read.
var (
	errHost    = errors.New("this host is not among those of the console")
	errOrigin  = errors.New("asked for by another site")
	errNobody  = errors.New("not authorized")
	errNotJSON = errors.New("the body must be application/json")
)

// ServeHTTP acts, or says why not.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		refuse(w, http.StatusMethodNotAllowed, "only POST")
		return
	}
	ev := AuditEvent{Time: time.Now(), Remote: r.RemoteAddr}
	answer := AdminAnswer{}
	status := http.StatusForbidden
	told := false
	defer func() {
		if !told { // Authorize has panicked, which is its caller's to see
			ev.Err = errNobody
			a.tell(&ev)
		}
	}()
	switch {
	case !a.cfg.Console.hosts.allow(r.Host):
		ev.Err = errHost
	case a.origin.Check(r) != nil:
		ev.Err = errOrigin
	default:
		status, answer.Until, ev.Err = a.serve(w, r, &ev)
	}
	told = true
	a.tell(&ev)
	if answer.Done = ev.Err == nil; !answer.Done {
		answer.Error = text(ev.Err.Error())
		if ev.Who == "" { // a stranger learns nothing
			answer.Error = errNobody.Error()
		}
	}
	reply(w, status, answer)
}

func (a *Admin) serve(w http.ResponseWriter, r *http.Request, ev *AuditEvent) (status int, until time.Time, err error) {
	who, err := a.cfg.Authorize(r)
	if err == nil && who == "" {
		err = errNobody
	}
	if err != nil {
		return http.StatusForbidden, until, err
	}
	ev.Who = who
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return http.StatusUnsupportedMediaType, until, errNotJSON // which forms cannot send
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminRequest))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return http.StatusRequestEntityTooLarge, until, err
	}
	if err == nil {
		err = ev.Request.read(body)
	}
	if err != nil {
		return http.StatusBadRequest, until, err
	}
	return a.act(&ev.Request, who, time.Now())
}

// read reads a request. Names of fields are to be as they are written in the documentation, and each is there once: what guards the Admin
// may read the request, too, and is not to see another one.
func (q *AdminRequest) read(body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil {
		return err
	} else if t != json.Delim('{') {
		return errors.New("the body must be an object")
	}
	fields := map[string]*string{
		"action": &q.Action, "mesh": &q.Mesh, "service": &q.Service, "addr": &q.Addr, "state": &q.State, "for": &q.For, "why": &q.Why,
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		field := fields[name]
		if field == nil {
			return fmt.Errorf("the field %q is unknown or there twice", name)
		}
		if err := dec.Decode(field); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		delete(fields, name)
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one request")
	}
	return nil
}

// act does what was asked for.
func (a *Admin) act(q *AdminRequest, who string, now time.Time) (status int, until time.Time, err error) {
	if q.Why == "" || len(q.Why) > maxText {
		return http.StatusBadRequest, until, fmt.Errorf("why: must have 1 to %d bytes", maxText)
	}
	op := zerohop.Operation{By: who, Why: q.Why}
	switch release := q.Action == "release"; {
	case release && q.For != "":
		return http.StatusBadRequest, until, errors.New("for: is not for release")
	case !release:
		d, err := time.ParseDuration(q.For)
		if err != nil || d <= 0 || d > a.cfg.MaxDuration {
			return http.StatusBadRequest, until, fmt.Errorf("for: must be a duration of at most %v, such as 10m", a.cfg.MaxDuration)
		}
		op.For, until = d, now.Add(d).UTC()
	}
	if (q.State != "") != (q.Action == string(zerohop.ActionForceBreaker)) {
		return http.StatusBadRequest, until, fmt.Errorf("state: belongs to %q", zerohop.ActionForceBreaker)
	}
	o, s, _ := a.cfg.Console.find(q.Mesh, q.Service)
	if s == nil {
		return http.StatusNotFound, time.Time{}, errors.New("service: there is none of that name")
	}
	op.Service = s.Name
	if q.Addr != "" {
		if op.Addr = addrOf(s, q.Addr); op.Addr == "" {
			return http.StatusNotFound, time.Time{}, errors.New("addr: there is no such endpoint")
		}
	}
	switch m := o.mesh; q.Action {
	case string(zerohop.ActionEject):
		err = m.Eject(op)
	case string(zerohop.ActionDrain):
		err = m.Drain(op)
	case string(zerohop.ActionPauseRetries):
		err = m.PauseRetries(op)
	case string(zerohop.ActionForceBreaker):
		err = m.ForceBreakerFor(op, resilience.BreakerState(q.State))
	case "release":
		err = m.Release(op)
	default:
		err = errors.New(`action: must be "eject", "drain", "force breaker", "pause retries" or "release"`)
	}
	if err != nil {
		return http.StatusUnprocessableEntity, time.Time{}, err
	}
	o.stale()
	return http.StatusOK, until, nil
}

// addrOf returns the address that is shown as that, of an endpoint or of what an operator did to one that is gone; empty if there is none.
func addrOf(s *zerohop.ServiceState, shown string) string {
	for i := range s.Endpoints {
		if name(s.Endpoints[i].Addr) == shown {
			return s.Endpoints[i].Addr
		}
	}
	for i := range s.Operations {
		if name(s.Operations[i].Addr) == shown {
			return s.Operations[i].Addr
		}
	}
	return ""
}

// tell makes an event of what was done or refused. The timeline learns of what was done by Hooks.State.
func (a *Admin) tell(ev *AuditEvent) {
	if a.cfg.Audit != nil {
		a.cfg.Audit(*ev)
	}
	if ev.Err == nil {
		return
	}
	q := &ev.Request
	e := &Event{
		Time: ev.Time, Kind: "admin refused", Level: levelWarn, ServiceName: ServiceName{name(q.Mesh), name(q.Service)}, Addr: name(q.Addr), Cause: name(q.Action), By: name(ev.Who),
		Text: "an operator was refused: " + text(ev.Err.Error()),
	}
	if ev.Who == "" {
		e.Text = "somebody who may not act was refused"
	}
	a.cfg.Console.timeline.add(e, a.cfg.Console)
}
