package samehost

import (
	"errors"
	"io/fs"
	"syscall"
)

// Reason is why a socket was not used. The values are fixed words, fit for labels.
type Reason string

const (
	// ReasonGone is that there is no file at the path.
	ReasonGone Reason = "gone"
	// ReasonRefused is that nobody listens on it: the process has ended without removing it.
	ReasonRefused Reason = "refused"
	// ReasonBusy is that the server is behind with accepting connections.
	ReasonBusy Reason = "busy"
	// ReasonForbidden is that the Policy does not allow it, or the system does not.
	ReasonForbidden Reason = "forbidden"
	// ReasonReplaced is that the file is not the one that the instance made.
	ReasonReplaced Reason = "replaced"
	// ReasonSilent is that there was a connection, but that what is spoken over it could not begin: a handshake of TLS failed, or it
	// was closed before anything was said.
	ReasonSilent Reason = "silent"
	// ReasonOther is anything else.
	ReasonOther Reason = "other"
)

// ReasonOf returns what an error of Socket.Dial comes from, and empty for nil. While a socket is left alone it is the reason why.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	if r, ok := errors.AsType[*reasonError](err); ok {
		return r.reason
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ReasonGone
	case errors.Is(err, syscall.ECONNREFUSED):
		return ReasonRefused
	case errors.Is(err, syscall.EAGAIN):
		return ReasonBusy
	case errors.Is(err, fs.ErrPermission):
		return ReasonForbidden
	}
	return ReasonOther
}

// reasonError is an error whose reason is known.
type reasonError struct {
	reason Reason
	error
}

func (e *reasonError) Unwrap() error { return e.error }
