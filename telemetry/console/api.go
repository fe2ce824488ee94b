package console

import "net/http"

// serveView answers a request for a view.
func (c *Console) serveView(w http.ResponseWriter, r *http.Request, view string) {
	refuse(w, http.StatusNotFound, "there is no such view")
}
