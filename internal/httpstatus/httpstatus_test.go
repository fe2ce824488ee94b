package httpstatus

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestErrorsQuoteWhatTheServerSays(t *testing.T) {
	for _, c := range []struct {
		err  Error
		want string
	}{
		{Error{500, "no leader\x1b[31m"}, `status 500 "no leader\x1b[31m"`},
		{Error{403, "ACL not found"}, `permission denied: status 403 "ACL not found"`},
		{Error{401, ""}, `permission denied: status 401 ""`},
		{Error{302, "<a href=x>"}, "status 302: redirects are not followed"},
		{Error{400, strings.Repeat("x", 1000)}, `status 400 "` + strings.Repeat("x", 200) + `..."`},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("error of %v = %s, want %s", c.err.Code, got, c.want)
		}
	}
	if got := Of(fmt.Errorf("list: %w", &Error{Code: 410})); got != 410 || Of(io.EOF) != 0 || Of(nil) != 0 {
		t.Errorf("code of a wrapped error = %d, want 410, and 0 for others", got)
	}
}
