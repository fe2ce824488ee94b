package zerohop

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// header is the header of a call.
type header map[string]string

func (h header) Get(name string) string { return h[name] }

func TestSessionIsReadFromHeaderOrCookie(t *testing.T) {
	const a, b = "00000000000000ff", "0123456789abcdef"
	for _, c := range []struct {
		name string
		h    header
		want uint64
	}{
		{"nothing", header{}, 0},
		{"header", header{"X-Session": a}, 0xff},
		{"cookie", header{"Cookie": "zh=" + a}, 0xff},
		{"header before cookie", header{"X-Session": a, "Cookie": "zh=" + b}, 0xff},
		{"bad header, good cookie", header{"X-Session": "10.0.0.1:80", "Cookie": "zh=" + b}, 0x123456789abcdef},
		{"among others", header{"Cookie": "a=b;zh=" + a + "; c=d"}, 0xff},
		{"a bad one first", header{"Cookie": "zh=x; zh=" + a}, 0xff},
		{"other name", header{"Cookie": "zhx=" + a + "; xzh=" + a + "; ZH=" + a}, 0},
		{"too short", header{"Cookie": "zh=ff"}, 0},
		{"too long", header{"Cookie": "zh=0" + a}, 0},
		{"upper case", header{"Cookie": "zh=00000000000000FF"}, 0},
		{"quoted", header{"Cookie": `zh="` + a + `"`}, 0},
		{"sign", header{"Cookie": "zh=+00000000000000f"}, 0},
		{"address", header{"Cookie": "zh=10.0.0.1:8080000"}, 0},
		{"zero", header{"Cookie": "zh=0000000000000000"}, 0},
	} {
		s := Sticky{Header: "X-Session", Cookie: Cookie{Name: "zh"}}
		if got := s.session(c.h); got != c.want {
			t.Errorf("%s: session(%v) = %#x, want %#x", c.name, c.h, got, c.want)
		}
	}
	if got := (&Sticky{Header: "X-Session"}).session(nil); got != 0 {
		t.Errorf("session(nil) = %#x, want 0", got)
	}
}

func FuzzSession(f *testing.F) {
	f.Add("0123456789abcdef", uint64(math.MaxUint64))
	f.Add("zh=;zh", uint64(1))
	s := Sticky{Cookie: Cookie{Name: "zh"}}
	f.Fuzz(func(t *testing.T, text string, key uint64) {
		if got := parseSession(formatSession(key)); got != key {
			t.Errorf("parseSession(formatSession(%#x)) = %#x", key, got)
		}
		if got := parseSession(text); got != 0 && formatSession(got) != text {
			t.Errorf("parseSession(%q) = %#x, which is written otherwise", text, got)
		}
		if got := s.session(header{"Cookie": text}); got != 0 && !strings.Contains(text, "zh="+formatSession(got)) {
			t.Errorf("session(%q) = %#x", text, got)
		}
	})
}

func TestTextOfCookies(t *testing.T) {
	for _, c := range []struct {
		cookie Cookie
		secure bool
		want   string
	}{
		{Cookie{Name: "zh", Path: "/"}, false, "zh=v; Path=/; HttpOnly; SameSite=Lax"},
		{Cookie{Name: "zh", Path: "/"}, true, "zh=v; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{Cookie{Name: "zh", Path: "/shop", TTL: 90500 * time.Millisecond, Secure: On}, false, "zh=v; Path=/shop; Max-Age=90; HttpOnly; Secure; SameSite=Lax"},
		{Cookie{Name: "zh", Path: "/", Secure: Off}, true, "zh=v; Path=/; HttpOnly; SameSite=Lax"},
	} {
		if got := c.cookie.text("v", c.secure); got != c.want {
			t.Errorf("text() of %+v, secure %v = %q, want %q", c.cookie, c.secure, got, c.want)
		}
	}
}

// whom makes a call and returns the endpoint that answered.
func whom(ctx context.Context, m *Mesh) (string, error) {
	return Do(ctx, m, "orders", func(_ context.Context, n *loadbalance.Node) (string, error) { return n.Addr(), nil })
}

func TestCallGoesToItsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eps := endpoints(4)
		eps[2].Health, eps[3].Health = discovery.Draining, discovery.Terminating
		m := open(t, Config{Resolver: discovery.Static{"orders": eps}})
		for _, c := range []struct {
			node string
			soft bool // goes there
			err  error
		}{
			{eps[0].Addr, true, nil},
			{eps[1].Addr, true, nil},
			{eps[2].Addr, true, nil},
			{eps[3].Addr, false, loadbalance.ErrNoNode},
			{"10.9.9.9:80", false, loadbalance.ErrNoNode},
		} {
			for range 20 {
				got, err := whom(WithCall(t.Context(), CallOptions{Node: c.node}), m)
				if err != nil || (got == c.node) != c.soft {
					t.Errorf("call to %s went to %s, %v, want there: %v", c.node, got, err, c.soft)
				}
				got, err = whom(WithCall(t.Context(), CallOptions{Node: c.node, Strict: On}), m)
				if !errors.Is(err, c.err) || err == nil && got != c.node {
					t.Errorf("strict call to %s went to %s, %v, want error %v", c.node, got, err, c.err)
				}
				if err != nil {
					if e := failure(t, err); e.Reason != NoEndpoints || e.Sent || len(e.Attempts) > 0 {
						t.Errorf("error = %+v, want reason %q and no attempt", e, NoEndpoints)
					}
				}
			}
		}
	})
}

func TestRetriesOfBoundCalls(t *testing.T) {
	for _, c := range []struct {
		name   string
		strict Switch
		same   bool
	}{{"soft", Off, false}, {"strict", On, true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := open(t, Config{Resolver: orders(4), Spec: idempotent})
				var tried []string
				ctx := WithCall(t.Context(), CallOptions{Node: "10.0.0.3:80", Strict: c.strict})
				_, err := Do(ctx, m, "orders", func(_ context.Context, n *loadbalance.Node) (int, error) {
					tried = append(tried, n.Addr())
					return 0, errors.New("no")
				})
				failure(t, err)
				if len(tried) != 3 || tried[0] != "10.0.0.3:80" {
					t.Fatalf("tried %v, want three, 10.0.0.3:80 first", tried)
				}
				slices.Sort(tried)
				if got := len(slices.Compact(tried)) == 1; got != c.same {
					t.Errorf("tried %v, want the same: %v", tried, c.same)
				}
			})
		})
	}
}

// A backup of a strict call could only go to the endpoint that is slow.
func TestBackupsOfBoundCalls(t *testing.T) {
	for _, strict := range []Switch{Off, On} {
		synctest.Test(t, func(t *testing.T) {
			m := open(t, Config{Resolver: orders(3), Spec: idempotent})
			ctx := WithCall(t.Context(), CallOptions{Node: "10.0.0.2:80", Strict: strict})
			got, err := Do(ctx, m, "orders", func(ctx context.Context, n *loadbalance.Node) (string, error) {
				if n.Addr() == "10.0.0.2:80" {
					select {
					case <-time.After(5 * time.Second):
					case <-ctx.Done():
						return "", ctx.Err()
					}
				}
				return n.Addr(), nil
			})
			if err != nil || (got == "10.0.0.2:80") != (strict == On) {
				t.Errorf("strict %s: answer of %s, %v", strict, got, err)
			}
		})
	}
}
