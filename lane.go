package zerohop

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/zerohop/zerohop/internal/baggage"
	"github.com/zerohop/zerohop/loadbalance"
	"github.com/zerohop/zerohop/routing"
)

// LaneKey is the member of W3C baggage (https://www.w3.org/TR/baggage/) that names the lane of a call: "baggage:
// zerohop-lane=feature-x". Whatever hands baggage on keeps a call in its lane, such as OpenTelemetry in any language.
const LaneKey = "zerohop-lane"

// MaxLane is how many bytes the name of a lane may have.
const MaxLane = 64

// Lane sends calls that are in a lane to the endpoints of the lane, and keeps all others away from them. So a feature branch of
// one service serves the calls that are marked for it, in the middle of services that have no such branch. A call is in a lane by
// WithLane, because the request is that it is made for (see Inbound.Lane), or by the baggage that it carries.
//
// The endpoints of a lane are those whose metadata (discovery.Endpoint.Meta) has its name under Key. Among them, priorities, zones
// and panic are decided as if there were no others. Policy.Select and the selections of routes and calls come first: a lane
// is a part of what they leave. Sessions and CallOptions.Node hold inside of the lane.
//
// Where the Mode is off, the metadata means nothing, and all endpoints get all calls. The lane of a call is handed on all the same.
type Lane struct {
	// Mode switches lanes. The built-in default is Off.
	Mode Switch `json:"mode,omitempty" yaml:"mode,omitempty"`
	// Key is the key of the metadata that names the lane of an endpoint. Empty inherits; the built-in default is "lane".
	Key string `json:"key,omitempty" yaml:"key,omitempty"`
	// Stable is the value that endpoints in no lane may have there. Those without the key, or with nothing under it, are in no
	// lane either. A call in the lane of that name is in none. Empty inherits; the built-in default is "stable".
	Stable string `json:"stable,omitempty" yaml:"stable,omitempty"`
	// Fallback is where the calls of a lane go that its endpoints cannot take: there is none, or none in service or below its
	// limit, or, for a retry, none that the call has not tried. FallbackStable, the built-in default, sends them to the endpoints in
	// no lane, and FallbackNone keeps them in the lane, where they fail with loadbalance.ErrNoMatch if it has no endpoint.
	// A backup never leaves the lane: that a branch is slow does not mean that it is down.
	Fallback Fallback `json:"fallback,omitempty" yaml:"fallback,omitempty"`
}

// FallbackStable sends the calls of a lane to the endpoints in no lane; see Lane.Fallback.
const FallbackStable Fallback = "stable"

// maxMetaKey bounds keys of metadata, far beyond what registries take.
const maxMetaKey = 256

func (l Lane) over(wide Lane) Lane {
	return Lane{
		Mode: pick(l.Mode, wide.Mode), Key: pick(l.Key, wide.Key), Stable: pick(l.Stable, wide.Stable),
		Fallback: pick(l.Fallback, wide.Fallback),
	}
}

// validate reports every mistake.
func (l *Lane) validate(path string) error {
	errs := []error{l.Mode.switching(path + ".mode")}
	if len(l.Key) > maxMetaKey {
		errs = append(errs, fmt.Errorf("%s.key: must have at most %d bytes, got %d", path, maxMetaKey, len(l.Key)))
	}
	if l.Stable != "" && !validLane(l.Stable) {
		errs = append(errs, fmt.Errorf("%s.stable: %.99q is not a name of a lane: an HTTP token of at most %d bytes", path, l.Stable, MaxLane))
	}
	switch l.Fallback {
	case "", FallbackStable, FallbackNone:
	default:
		errs = append(errs, fmt.Errorf(`%s.fallback: must be "stable" or "none", got %q`, path, string(l.Fallback)))
	}
	return errors.Join(errs...)
}

// validLane reports whether a lane can have the name: a token (RFC 9110, section 5.6.2) of at most MaxLane bytes.
func validLane(name string) bool {
	if name == "" || len(name) > MaxLane {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return true
}

// WithLane returns a context whose calls are in a lane, whatever the request that they are made for and their baggage say, and so
// are those that are made for them in turn. Empty means in none. The name is an HTTP token of at most MaxLane bytes;
// any other, which may have come from anybody, counts as empty.
func WithLane(ctx context.Context, lane string) context.Context {
	if !validLane(lane) {
		lane = ""
	}
	s := said(ctx)
	s.lane = &lane
	return &saying{ctx, s}
}

// LaneOf returns the lane of calls that are made with the context, empty if there is none, as far as WithLane and the
// request that a server works on say.
func LaneOf(ctx context.Context) string {
	lane, _ := heard(ctx).inLane()
	return lane
}

// inLane returns the lane that the context has calls be in, and whether it says so: then nothing else does.
func (s *sayings) inLane() (lane string, said bool) {
	switch {
	case s.lane != nil:
		return *s.lane, true
	case s.inbound == nil:
		return "", false
	case s.inbound.IgnoreLane || !validLane(s.inbound.Lane):
		return "", s.inbound.IgnoreLane
	}
	return s.inbound.Lane, true
}

// LaneIn returns the lane that baggage names, given the values of its header, empty if none. Servers that have neither
// httpmesh.Handler nor grpcmesh.Server take Inbound.Lane from it. Of long baggage it reads the 8,192 bytes and 64 members that
// everybody carries.
func LaneIn(header []string) string {
	if lane, ok := baggage.Get(header, LaneKey); ok && validLane(lane) {
		return lane
	}
	return ""
}

// laneOf returns the lane of a call.
func (m *Mesh) laneOf(ctx context.Context, said *sayings, h routing.Values) string {
	lane, ok := said.inLane()
	if ok || !m.present.Load().laned {
		return lane
	}
	if f := m.cfg.Hooks.Lane; f != nil {
		if lane := f(ctx); validLane(lane) {
			return lane
		}
	}
	switch h := h.(type) {
	case nil:
	case interface{ Values(string) []string }: // net/http, for one
		return LaneIn(h.Values("Baggage"))
	default:
		return LaneIn([]string{h.Get("Baggage")})
	}
	return ""
}

// laned reports whether the lane of a call can matter to where it goes.
func (s *Spec) laned() bool {
	if s.Defaults.Lane.Mode == On {
		return true
	}
	for _, policies := range []map[string]Policy{s.Services, s.Policies} {
		for _, p := range policies {
			if p.Lane.Mode == On {
				return true
			}
		}
	}
	for i := range s.Routes {
		r := &s.Routes[i]
		for _, m := range r.Or {
			if m.Lane != "" {
				return true
			}
		}
		if r.Match.Lane != "" {
			return true
		}
	}
	return false
}

// tag notes the lane of the call.
func (c *Call) tag(lane string) {
	if c.details == nil {
		c.details = &details{}
	}
	c.details.lane = lane
}

// Lane returns the lane of the call, empty if it is in none.
func (c *Call) Lane() string {
	if c.details == nil {
		return ""
	}
	return c.details.lane
}

// Tags reports whether Baggage may have something to say.
func (c *Call) Tags() bool {
	if c.Lane() != "" {
		return true
	}
	_, said := c.said.inLane()
	return said
}

// Baggage returns the baggage header of an attempt that has the given values without: the lane of the call is in it, in the
// place of any other, and else everything as it was. ok is false if nothing is to be changed, or if the header would grow past
// 8,192 bytes or 64 members, which not everybody carries. An empty header is to be removed. Transports call it, if Tags
// says so, after all else has been added to the attempt.
func (c *Call) Baggage(values []string) (header string, ok bool) {
	if c.target.policy.Propagate != On {
		return "", false
	}
	lane := c.Lane()
	if lane == "" {
		if !baggage.Has(values, LaneKey) {
			return "", false
		}
		return baggage.Delete(values, LaneKey), true
	}
	if now, _ := baggage.Get(values, LaneKey); now == lane {
		return "", false
	}
	return baggage.Set(values, LaneKey, lane)
}

// laner is a Lane made ready for calls.
type laner struct {
	key, stable string
	stays       bool // calls in a lane stay there
}

// newLaner returns nil if lanes are off.
func newLaner(l *Lane) *laner {
	if l.Mode != On {
		return nil
	}
	return &laner{l.Key, l.Stable, l.Fallback == FallbackNone}
}

// choose returns the part of set that a call may go to, as selector.choose does. left says that the lane was given up.
func (l *laner) choose(g *guide, in *loadbalance.Info, left bool, set, known *loadbalance.Set) (*loadbalance.Set, error) {
	if len(known.Nodes()) == 0 {
		return set, nil
	}
	var own *loadbalance.Set // those of the lane
	if g.lane != "" && g.lane != l.stable {
		all := known.Lane(l.key, l.stable, g.lane)
		if l.stays {
			if all == nil {
				return nil, loadbalance.ErrNoMatch
			}
			return g.selector.choose(g.wanted, some(set.Lane(l.key, l.stable, g.lane)), all)
		}
		if all != nil {
			all = all.Matching(g.wanted.keys, g.wanted.values)
		}
		if all != nil {
			own = some(some(set.Lane(l.key, l.stable, g.lane)).Matching(g.wanted.keys, g.wanted.values))
			if g.strict || !left && l.takes(in, own, all) {
				return own, nil
			}
		}
	}
	sub, err := &nothing, loadbalance.ErrNoMatch
	if all := known.Lane(l.key, l.stable, ""); all != nil {
		sub, err = g.selector.choose(g.wanted, some(set.Lane(l.key, l.stable, "")), all)
	}
	if err != nil && own != nil {
		return own, nil
	}
	return sub, err
}

// takes reports whether a lane can take an attempt. own are its endpoints that can be reached, of all.
func (l *laner) takes(in *loadbalance.Info, own, all *loadbalance.Set) bool {
	if len(own.Nodes()) == 0 { // it may be that they are about to be connected
		own = all
	}
	if in.Other {
		other := *in
		other.Avoid, other.Sound = nil, false
		in = &other
	}
	return own.Serves(*in)
}

// some returns a set for what may be none.
func some(set *loadbalance.Set) *loadbalance.Set {
	if set == nil {
		return &nothing
	}
	return set
}

// LeaveLane says that none of the endpoints that the attempt may go to by the lane of its call can be reached, for transports that
// choose endpoints late. It reports whether it may now go to those in no lane.
func (a *Attempt) LeaveLane() bool {
	g := a.call.guide()
	if g == nil || g.lanes == nil || g.lanes.stays || g.strict || g.lane == "" || g.lane == g.lanes.stable || a.Backup() {
		return false
	}
	a.call.mu.Lock()
	defer a.call.mu.Unlock()
	if a.rarity().astray {
		return false
	}
	a.ownRarity().astray = true
	return true
}
