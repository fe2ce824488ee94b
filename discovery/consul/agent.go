package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
)

const (
	// answerTime is how long the agent may take beyond the wait it was asked for. An agent that has lost
	// its servers holds a request for 7 s before it says so; a shorter bound would turn that answer
	// into a time-out.
	answerTime = 10 * time.Second
	// waitTime is how long a blocking query waits for a change. Consul adds up to a sixteenth. With
	// answerTime a connection that died without a word is found within 42 s; Consul's default of
	// 5 min would leave callers with a dead set for that long. The price is two requests a minute.
	waitTime = 30 * time.Second
)

var errNoClient = errors.New("consul: Client is nil")

// agent is the Consul agent that a client talks to.
type agent struct {
	client    *api.Client
	tokenFile string
}

// call makes one request, which ends after limit. Its error names what was asked and the address of the agent;
// it is ctx.Err() if ctx ended, and a *discovery.RefusedError if the agent answered and refused.
func (a agent) call(ctx context.Context, what string, limit time.Duration, do func(*api.QueryOptions) error) (*exchange, error) {
	var token string
	if a.tokenFile != "" {
		data, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("consul: token file: %w", err)
		}
		token = strings.TrimSpace(string(data))
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	x := new(exchange)
	err := do((&api.QueryOptions{Token: token}).WithContext(x.attach(bounded)))
	switch {
	case err == nil:
		return x, nil
	case ctx.Err() != nil:
		return x, ctx.Err()
	case bounded.Err() != nil:
		return x, x.explain(what, fmt.Errorf("no answer within %v: %w", limit, bounded.Err()))
	}
	return x, x.explain(what, err)
}

type exchangeKey struct{}

// exchange is what a request leaves behind besides its answer.
type exchange struct {
	mu         sync.Mutex // guards all below: net/http calls the hooks on goroutines of its own
	addr       string     // of the agent
	token      bool       // whether an ACL token was sent
	retryAfter time.Duration
	known      *indexes // of the client; nil if it keeps none
}

// attach returns ctx with the hooks that fill x. api.Client tells neither its address nor whether it has a token.
func (x *exchange) attach(ctx context.Context) context.Context {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(hostPort string) {
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.addr == "" {
				x.addr = hostPort
			}
		},
		WroteHeaderField: func(key string, _ []string) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.token = x.token || strings.EqualFold(key, "X-Consul-Token")
		},
	})
	return context.WithValue(ctx, exchangeKey{}, x)
}

func (x *exchange) answered(retryAfter time.Duration, known *indexes) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.retryAfter, x.known = retryAfter, known
}

func (x *exchange) indexes() *indexes {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.known
}

func (x *exchange) anonymous() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.token
}

// explain says what was asked of whom. A refusal becomes a *discovery.RefusedError.
func (x *exchange) explain(what string, err error) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	addr := x.addr
	if requested, ok := errors.AsType[*url.Error](err); ok {
		if u, perr := url.Parse(requested.URL); perr == nil && addr == "" {
			addr = u.Host
		}
		err = requested.Err // the URL only repeats what we say
	}
	if addr == "" {
		addr = "the agent"
	}
	answer, refused := errors.AsType[api.StatusError](err)
	if refused {
		err = &statusError{code: answer.Code, text: answer.Body}
	}
	denied := answer.Code == http.StatusForbidden || answer.Code == http.StatusUnauthorized || errors.Is(err, errFiltered)
	hint := ""
	if denied && !x.token {
		hint = " (no token was sent)"
	}
	err = fmt.Errorf("consul: %s at %s: %w%s", what, addr, err, hint)
	if refused || denied || errors.Is(err, errTooLarge) {
		return &discovery.RefusedError{After: x.retryAfter, Denied: denied, Err: err}
	}
	return err
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	text string
}

// Error quotes the text of the agent, cut: it comes from outside and ends in logs.
func (e *statusError) Error() string {
	const most = 200
	text := e.text
	if len(text) > most {
		text = text[:most] + "..."
	}
	switch e.code {
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Sprintf("permission denied: status %d %q", e.code, text)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return fmt.Sprintf("status %d: redirects are not followed", e.code)
	}
	return fmt.Sprintf("status %d %q", e.code, text)
}

func notFound(err error) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && e.code == http.StatusNotFound
}

// checkName refuses names that change the path of a request: api.Client escapes everything in them but slashes,
// and the agent resolves dots.
func checkName(kind, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("consul: %s is empty", kind)
	case name == "." || name == ".." || strings.Contains(name, "/"):
		return fmt.Errorf("consul: %s %q cannot stand in a URL", kind, name)
	}
	return nil
}
