package httpmesh

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		in := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
		for _, c := range []struct {
			code        int
			value, date string
			want        time.Duration
		}{
			{503, "", "", 0}, {503, "0", "", 0}, {503, "7", "", 7 * time.Second}, {429, "7", "", 7 * time.Second},
			{200, "7", "", 0}, {502, "7", "", 0}, {503, "60", "", time.Minute}, {503, "61", "", time.Minute},
			{503, "4294967296", "", time.Minute}, {503, "99999999999999999999999", "", time.Minute},
			{503, "-1", "", 0}, {503, "1.5", "", 0}, {503, "soon", "", 0}, {503, " 7", "", 0},
			{503, in(20 * time.Second), "", 20 * time.Second}, {503, in(-time.Hour), "", 0}, {503, in(time.Hour), "", time.Minute},
			{503, in(time.Hour), in(time.Hour - 5*time.Second), 5 * time.Second}, {503, in(9 * time.Second), "nonsense", 9 * time.Second},
		} {
			resp := &http.Response{StatusCode: c.code, Header: http.Header{"Retry-After": {c.value}, "Date": {c.date}}}
			if got := retryAfter(resp); got != c.want {
				t.Errorf("retryAfter(%d, %q, Date %q) = %v, want %v", c.code, c.value, c.date, got, c.want)
			}
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"1", "-1", "Mon, 02 Jan 2006 15:04:05 GMT", "18446744073709551616", "Sun, 06-Nov-94 08:49:37 GMT"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		resp := &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {value}, "Date": {date}}}
		if got := retryAfter(resp); got < 0 || got > maxRetryAfter {
			t.Errorf("retryAfter(%q, %q) = %v, want 0 to %v", value, date, got, maxRetryAfter)
		}
	})
}
