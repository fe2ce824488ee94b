package interop_test

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/interop/stock"
)

// warehouse is an HTTP API of three nodes, of which the first one or all are closed.
func warehouse(t testing.TB, all bool) (*fleet, *stock.ClientWithResponses) {
	t.Helper()
	reply := func(w http.ResponseWriter, code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	var n atomic.Int32
	f := start(t, overHTTP1, 3, zerohop.Policy{}, func(b *node) http.Handler {
		first := n.Add(1) == 1
		mux := http.NewServeMux()
		mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, r *http.Request) {
			if b.calls.Add(1); first || all {
				reply(w, http.StatusServiceUnavailable, stock.Problem{Title: "closed"})
				return
			}
			reply(w, http.StatusOK, stock.Item{Id: r.PathValue("id"), Count: 3})
		})
		mux.HandleFunc("POST /items", func(w http.ResponseWriter, r *http.Request) {
			var item stock.Item
			if err := json.NewDecoder(r.Body).Decode(&item); err != nil {
				t.Error(err)
			}
			if b.calls.Add(1); first || all {
				reply(w, http.StatusServiceUnavailable, stock.Problem{Title: "closed"})
				return
			}
			reply(w, http.StatusCreated, item)
		})
		return mux
	})
	client, err := stock.NewClientWithResponses("http://shop", stock.WithHTTPClient(f.http))
	if err != nil {
		t.Fatal(err)
	}
	return f, client
}

func TestOpenAPIClientsSurviveANodeThatIsUnavailable(t *testing.T) {
	f, client := warehouse(t, false)
	for f.nodes[0].calls.Load() == 0 {
		got, err := client.GetItemWithResponse(t.Context(), "apple 1")
		if err != nil {
			t.Fatal(err)
		}
		if got.JSON200 == nil || got.JSON200.Id != "apple 1" {
			t.Fatalf("%s: %s, want the item", got.Status(), got.Body)
		}
	}
}

func TestOpenAPIClientsRepeatWithAKey(t *testing.T) {
	f, client := warehouse(t, false)
	key := "4711"
	for f.nodes[0].calls.Load() == 0 {
		got, err := client.AddItemWithResponse(t.Context(), &stock.AddItemParams{IdempotencyKey: &key}, stock.Item{Id: "pear", Count: 7})
		if err != nil {
			t.Fatal(err)
		}
		if got.JSON201 == nil || *got.JSON201 != (stock.Item{Id: "pear", Count: 7}) {
			t.Fatalf("%s: %s, want the item", got.Status(), got.Body)
		}
	}
}

func TestOpenAPIClientsGetTheAnswersThereAre(t *testing.T) {
	f, client := warehouse(t, true)
	added, err := client.AddItemWithResponse(t.Context(), &stock.AddItemParams{}, stock.Item{Id: "pear"})
	if err != nil {
		t.Fatal(err)
	}
	if added.JSON503 == nil || added.JSON503.Title != "closed" {
		t.Errorf("%s: %s, want the problem", added.Status(), added.Body)
	}
	if got, want := f.calls(), 1; got != want {
		t.Errorf("%d calls, want %d", got, want)
	}
	item, err := client.GetItemWithResponse(t.Context(), "pear")
	if err != nil {
		t.Fatal(err)
	}
	if item.JSON503 == nil || item.JSON503.Title != "closed" {
		t.Errorf("%s: %s, want the problem", item.Status(), item.Body)
	}
	if got, want := f.calls(), 4; got != want {
		t.Errorf("%d calls, want %d", got, want)
	}
}
