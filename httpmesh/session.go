package httpmesh

import (
	"net/http"

	"github.com/zerohop/zerohop"
)

// bind adds to the answer what binds further calls of its caller to its endpoint, if its policy has sessions.
func bind(resp *http.Response, req *http.Request, a *zerohop.Attempt) {
	if !a.Binds() {
		return
	}
	// A gateway that ends TLS says so to those behind it. Who lies about that gets a cookie that he does not send.
	secure := req.URL.Scheme == "https" || first(req.Header["X-Forwarded-Proto"]) == "https"
	if resp.Header == nil {
		resp.Header = http.Header{}
	}
	a.Bind(secure, func(name, value string) {
		if name != "Set-Cookie" {
			resp.Header.Del(name)
		}
		resp.Header.Add(name, value)
	})
}
