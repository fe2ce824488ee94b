package grpcmesh

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/resilience"
)

// statusError is an error of the mesh that gRPC knows the status of.
type statusError struct {
	cause *zerohop.Error
	code  codes.Code
}

// Error returns the text of the *zerohop.Error.
func (e *statusError) Error() string { return e.cause.Error() }

// GRPCStatus returns the status of the call.
func (e *statusError) GRPCStatus() *status.Status {
	if s, ok := status.FromError(e.cause.Err); ok && s.Code() == e.code {
		return s // with its details
	}
	if a := zerohop.Answer(e.cause); a != nil && a.Body != "" {
		return status.New(e.code, a.Body)
	}
	return status.New(e.code, e.Error())
}

// Unwrap returns the *zerohop.Error.
func (e *statusError) Unwrap() error { return e.cause }

// statusOf gives the error of a call without an answer its status.
func statusOf(err error) error {
	var e *zerohop.Error
	if !errors.As(err, &e) {
		return err
	}
	code := codes.Unavailable
	switch {
	case e.Reason == zerohop.Ended && errors.Is(root(e.Err), context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case e.Reason == zerohop.Ended, e.Reason == zerohop.Closed:
		code = codes.Canceled
	case e.Reason == zerohop.RateLimited, e.Reason == zerohop.Limited, e.Reason == zerohop.Throttled:
		code = codes.ResourceExhausted
	case e.Reason == zerohop.Injected, e.Reason == zerohop.Fixed:
		if a := zerohop.Answer(e); a != nil {
			code = codes.Code(a.Code)
		}
	case e.Reason == zerohop.Unrewritable:
		code = codes.Internal
	case e.Reason == zerohop.Failed:
		code = codeOf(e)
	}
	return &statusError{cause: e, code: code}
}

// root returns what an error was made of first. For a call that its context ended that is the error of the context; what
// follows is the cause of that, which may have the error of another context in it, or the last attempt.
func root(err error) error {
	for {
		var inner error
		switch e := any(err).(type) {
		case interface{ Unwrap() []error }:
			if list := e.Unwrap(); len(list) > 0 {
				inner = list[0]
			}
		case interface{ Unwrap() error }:
			inner = e.Unwrap()
		}
		if inner == nil {
			return err
		}
		err = inner
	}
}

// codeOf returns the code of a call that failed in its last attempt.
func codeOf(e *zerohop.Error) codes.Code {
	if e.Timeout() { // of the attempt: not known to gRPC, which was told to give up
		return codes.DeadlineExceeded
	}
	return status.Code(e.Err)
}

// answerError returns the error that is the answer of a call, nil if the answer is none. An error of the application is
// the caller's as it is; a failure carries what was tried.
func answerError(call *zerohop.Call, a *zerohop.Attempt) error {
	if a.Err == nil || a.Verdict().Outcome == resilience.Success {
		return a.Err
	}
	e := call.Failure(a)
	return &statusError{cause: e, code: codeOf(e)}
}
