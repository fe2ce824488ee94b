package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/telemetry/console"
)

// The page is mounted on a mux that only operators reach.
func Example() {
	resolver := discovery.Static{"orders": {{Addr: "127.0.0.1:8080"}}}
	err := func() error {
		c, err := console.New(console.Config{Name: "storefront"})
		if err != nil {
			return err
		}
		defer c.Close()
		mesh, err := zerohop.New(zerohop.Config{Resolver: resolver, Hooks: c.Hooks()})
		if err != nil {
			return err
		}
		defer mesh.Close()
		internal := http.NewServeMux() // of a port that only operators reach
		internal.Handle("/debug/zerohop/", c)

		r := httptest.NewRequest(http.MethodGet, "http://localhost:9090/debug/zerohop/", nil)
		w := httptest.NewRecorder()
		internal.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Header().Get("Content-Type"))
		return nil
	}()
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// 200 text/html; charset=utf-8
}
