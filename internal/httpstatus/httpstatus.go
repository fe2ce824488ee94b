// Package httpstatus is how answers of registries are reported that are no success.
package httpstatus

import (
	"errors"
	"fmt"
	"net/http"
)

// Error is an answer other than 200, or such an answer in a stream.
type Error struct {
	Code int
	Text string
}

// Error quotes the text of the server, cut: it comes from outside and ends in logs.
func (e *Error) Error() string {
	const most = 200
	text := e.Text
	if len(text) > most {
		text = text[:most] + "..."
	}
	switch e.Code {
	case http.StatusForbidden, http.StatusUnauthorized:
		return fmt.Sprintf("permission denied: status %d %q", e.Code, text)
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return fmt.Sprintf("status %d: redirects are not followed", e.Code)
	}
	return fmt.Sprintf("status %d %q", e.Code, text)
}

// Of returns the code of the Error in err, 0 if there is none.
func Of(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return 0
}
