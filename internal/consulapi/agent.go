package consulapi

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
	"github.com/zerohop/zerohop/internal/httpstatus"
)

const (
	// AnswerTime is how long the agent may take beyond the wait it was asked for. An agent that has lost
	// its servers holds a request for 7 s before it says so; a shorter bound would turn that answer
	// into a time-out.
	AnswerTime = 10 * time.Second
	// WaitTime is how long a blocking query waits for a change. Consul adds up to a sixteenth. With
	// AnswerTime a connection that died without a word is found within 42 s; Consul's default of
	// 5 min would leave callers with a dead set for that long. The price is two requests a minute.
	WaitTime = 30 * time.Second
)

// Errors. ErrHidden stands for an empty answer that is empty because the token may not see what was asked for.
var (
	ErrNoClient = errors.New("consul: Client is nil")
	ErrHidden   = errors.New("permission denied: the answer is empty because ACLs hide the service")
	ErrTooLarge = errors.New("the answer is too large")
)

// Agent is the Consul agent that a client talks to.
type Agent struct {
	Client    *api.Client
	TokenFile string
	// Limit bounds an answer, in bytes, if the client has a Guard. 0 means MaxAnswer.
	Limit int
}

// Call makes one request, which ends after limit. Its error names what was asked and the address of the agent;
// it is ctx.Err() if ctx ended, and a *discovery.RefusedError if the agent answered and refused.
func (a Agent) Call(ctx context.Context, what string, limit time.Duration, do func(*api.QueryOptions) error) (*Exchange, error) {
	var token string
	if a.TokenFile != "" {
		data, err := os.ReadFile(a.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("consul: token file: %w", err)
		}
		token = strings.TrimSpace(string(data))
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	x := &Exchange{limit: a.Limit}
	err := do((&api.QueryOptions{Token: token}).WithContext(x.attach(bounded)))
	switch {
	case err == nil:
		return x, nil
	case ctx.Err() != nil:
		return x, ctx.Err()
	case bounded.Err() != nil:
		return x, x.Explain(what, fmt.Errorf("no answer within %v: %w", limit, bounded.Err()))
	}
	return x, x.Explain(what, err)
}

type exchangeKey struct{}

// Exchange is what a request leaves behind besides its answer.
type Exchange struct {
	limit      int
	mu         sync.Mutex // guards all below: net/http calls the hooks on goroutines of its own
	addr       string     // of the agent
	token      bool       // whether an ACL token was sent
	retryAfter time.Duration
	owner      any // of the client; nil if NewClient has not made it
}

// attach returns ctx with the hooks that fill x. api.Client tells neither its address nor whether it has a token.
func (x *Exchange) attach(ctx context.Context) context.Context {
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

func (x *Exchange) answered(retryAfter time.Duration, owner any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.retryAfter, x.owner = retryAfter, owner
}

// Owner returns that of the Guard of the client, nil if it has none.
func (x *Exchange) Owner() any {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.owner
}

// Anonymous reports whether no token was sent.
func (x *Exchange) Anonymous() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.token
}

// Explain says what was asked of whom. A refusal becomes a *discovery.RefusedError.
func (x *Exchange) Explain(what string, err error) error {
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
		err = &httpstatus.Error{Code: answer.Code, Text: answer.Body}
	}
	denied := answer.Code == http.StatusForbidden || answer.Code == http.StatusUnauthorized || errors.Is(err, ErrHidden)
	hint := ""
	if denied && !x.token {
		hint = " (no token was sent)"
	}
	err = fmt.Errorf("consul: %s at %s: %w%s", what, addr, err, hint)
	if refused || denied || errors.Is(err, ErrTooLarge) {
		return &discovery.RefusedError{After: x.retryAfter, Denied: denied, Err: err}
	}
	return err
}

// NotFound reports whether err is the answer 404.
func NotFound(err error) bool { return httpstatus.Of(err) == http.StatusNotFound }

// CheckName refuses names that change the path of a request: api.Client escapes everything in them but slashes,
// and the agent resolves dots.
func CheckName(kind, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("consul: %s is empty", kind)
	case name == "." || name == ".." || strings.Contains(name, "/"):
		return fmt.Errorf("consul: %s %q cannot stand in a URL", kind, name)
	}
	return nil
}
