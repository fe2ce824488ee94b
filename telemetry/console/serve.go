package console

import (
	"embed"
	"encoding/json"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed page
var embedded embed.FS

// pages are the files of the page, by name.
var pages = func() map[string][]byte {
	files := map[string][]byte{}
	_ = fs.WalkDir(embedded, "page", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[path.Base(p)], err = embedded.ReadFile(p)
		}
		return err // there is none: the files are in the program
	})
	return files
}()

// policy is what the page may load: its own files, and nothing from elsewhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// secure sets the headers of all answers.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

// ServeHTTP answers requests for the page and the views. The prefix of the path does not matter; see the documentation of the package.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	switch {
	case !c.hosts.allow(r.Host):
		refuse(w, http.StatusForbidden, "this host is not among those of the console: see console.Config.Hosts")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "only GET and HEAD")
		return
	case c.ctx.Err() != nil:
		refuse(w, http.StatusServiceUnavailable, "the console is closed")
		return
	}
	dir, file := path.Split(r.URL.Path)
	if strings.HasSuffix(dir, "/api/") || dir == "api/" {
		// What another site has a browser ask for cannot be read there, but it costs time and streams.
		if s := r.Header.Get("Sec-Fetch-Site"); s != "" && s != "same-origin" && s != "none" {
			refuse(w, http.StatusForbidden, "asked for by another site")
			return
		}
		c.serveView(w, r, file)
		return
	}
	if file == "" {
		file = "index.html"
	}
	data, ok := pages[file]
	if !ok {
		refuse(w, http.StatusNotFound, "there is no such page")
		return
	}
	w.Header().Set("Content-Type", contentType(file))
	_, _ = w.Write(data) // nobody is there to be told
}

func contentType(file string) string {
	switch path.Ext(file) { // not as the machine has it
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	if t := mime.TypeByExtension(path.Ext(file)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// refuse answers with an error. The text is fixed: nothing of the request is in it.
func refuse(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}

// reply answers with a view.
func reply(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // a number that is none
		refuse(w, http.StatusInternalServerError, "the view cannot be written")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
