package httpmesh_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/httpmesh"
)

// A server that does not begin more than it can finish. Mode is usually left out at first, and Refused watched for a while.
func ExampleHandlerOptions_admission() {
	admission, err := zerohop.NewAdmission(zerohop.AdmissionConfig{
		Policy: zerohop.AdmissionPolicy{Mode: zerohop.On, Algorithm: "fixed", Max: 1, Queue: -1}, // for the example: Mode is enough
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var server *httptest.Server
	get := func(criticality string) {
		req, _ := http.NewRequest("GET", server.URL, nil)
		req.Header.Set(httpmesh.CriticalityHeader, criticality) // a Transport sets it
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Printf("%s: %d, repeat elsewhere: %v\n", criticality, resp.StatusCode, resp.Header.Get(httpmesh.NoRetryHeader) == "")
	}
	work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		get("critical") // there is no place left while this one is worked on
		get("sheddable")
	})
	server = httptest.NewServer(httpmesh.NewHandler(work, httpmesh.HandlerOptions{Admission: admission}))
	defer server.Close()
	get("critical-plus")
	fmt.Println("refused:", admission.State().NoPlace)

	// Output:
	// critical: 503, repeat elsewhere: true
	// sheddable: 503, repeat elsewhere: false
	// critical-plus: 200, repeat elsewhere: true
	// refused: 2
}
