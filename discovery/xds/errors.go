package xds

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop/discovery"
)

var (
	errClosed   = errors.New("xds: the resolver is closed")
	errIdle     = errors.New("xds: nobody watches")
	errSilent   = errors.New("no answer within 15 s")
	errFrozen   = errors.New("the connection is open and nobody answers")
	errFinished = errors.New("the control plane ended the stream")
	errGarbled  = errors.New("an answer cannot be decoded")
)

// maxRetryAfter bounds what a control plane can ask us to wait.
const maxRetryAfter = time.Minute

// cut returns text from outside in a form that can stand in an error: quoted, and not long.
func cut(text string) string {
	const longest = 256
	if len(text) > longest {
		return fmt.Sprintf("%q...", text[:longest])
	}
	return fmt.Sprintf("%q", text)
}

// explain returns the reason why a stream to server ended, a *discovery.RefusedError if the control plane refused it.
func explain(server string, err error) error {
	wrap := func(err error) error { return fmt.Errorf("xds: stream to %s: %w", cut(server), err) }
	if errors.Is(err, io.EOF) {
		return wrap(errFinished)
	}
	s, ok := status.FromError(err)
	if !ok {
		return wrap(err)
	}
	err = wrap(fmt.Errorf("%v: %s", s.Code(), cut(s.Message())))
	switch s.Code() {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Aborted: // not reached, or it goes away
		return err
	}
	refused := &discovery.RefusedError{Err: err}
	refused.Denied = s.Code() == codes.PermissionDenied || s.Code() == codes.Unauthenticated
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			refused.After = min(max(info.GetRetryDelay().AsDuration(), 0), maxRetryAfter)
		}
	}
	return refused
}

// mistakes collects what is wrong with a resource.
type mistakes struct {
	list []string
	more int
}

// addf notes a mistake. Only the first few are kept.
func (m *mistakes) addf(format string, args ...any) {
	const kept = 5
	if len(m.list) >= kept {
		m.more++
		return
	}
	m.list = append(m.list, fmt.Sprintf(format, args...))
}

// err returns all mistakes as one error, or nil.
func (m *mistakes) err() error {
	if len(m.list) == 0 {
		return nil
	}
	text := strings.Join(m.list, "; ")
	if m.more > 0 {
		text += fmt.Sprintf("; and %d more", m.more)
	}
	return errors.New(text)
}
