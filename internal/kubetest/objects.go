//go:build unix

package kubetest

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
)

const slicesPath = "/apis/discovery.k8s.io/v1/namespaces/"

// PutSlice creates the slice, or replaces the one of its name. An empty namespace means "default".
func (s *Server) PutSlice(t testing.TB, slice *discoveryv1.EndpointSlice) {
	t.Helper()
	folder := sliceFolder(slice.Namespace)
	if s.Do(t, http.MethodPut, path.Join(folder, slice.Name), slice) == http.StatusNotFound {
		if code := s.Do(t, http.MethodPost, folder, slice); code != http.StatusCreated {
			t.Fatalf("kubernetes: create slice %s: status %d", slice.Name, code)
		}
	}
}

// DeleteSlice deletes a slice, which may be gone already.
func (s *Server) DeleteSlice(t testing.TB, namespace, name string) {
	t.Helper()
	s.Do(t, http.MethodDelete, path.Join(sliceFolder(namespace), name), nil)
}

func sliceFolder(namespace string) string {
	if namespace == "" {
		namespace = "default"
	}
	return slicesPath + namespace + "/endpointslices"
}

// Do makes a request as administrator, with object as JSON if it is not nil, and returns the status. It fails the test if there
// is no answer or one that is neither a success, nor 404 or 409.
func (s *Server) Do(t testing.TB, method, path string, object any) int {
	t.Helper()
	var body io.Reader
	if object != nil {
		data, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(data)
	}
	code, text, err := s.request(method, "https://"+s.Addr()+path, AdminToken, body)
	if err != nil {
		t.Fatalf("kubernetes: %s %s: %v", method, path, err)
	}
	if code >= 300 && code != http.StatusNotFound && code != http.StatusConflict {
		t.Fatalf("kubernetes: %s %s: status %d: %s", method, path, code, text)
	}
	return code
}

// get reports whether the answer is 200.
func (s *Server) get(url, token string) bool {
	code, _, err := s.request(http.MethodGet, url, token, nil)
	return err == nil && code == http.StatusOK
}

// newClient returns a client that does not check certificates: that of the server is made when it starts.
func newClient() *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

func (s *Server) request(method, url, token string, body io.Reader) (int, string, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}
