package routing_test

import (
	"fmt"
	"net/http"

	"github.com/zerohop/zerohop/routing"
)

func ExampleCompile() {
	table, err := routing.Compile([]routing.Rule{
		{
			Name:     "testers",
			Match:    routing.Match{Service: "orders", Headers: []routing.Field{{Name: "x-tester", Present: true}}},
			Backends: []routing.Backend{{Service: "orders-next"}},
		},
		{
			Name:     "canary",
			Match:    routing.Match{Service: "orders", Path: routing.Path{Prefix: "/v2"}},
			Backends: []routing.Backend{{Service: "orders", Weight: 95}, {Service: "orders-next", Weight: 5}},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	show := func(path string, header http.Header, random uint64) {
		r := routing.Request{Service: "orders", Method: "GET", Path: path, Header: header}
		d := table.Route(&r, random)
		if d.Rule < 0 {
			fmt.Println(path, "-> no rule")
			return
		}
		fmt.Println(path, "->", table.Rule(d.Rule).Name, table.Rule(d.Rule).Backends[d.Backend].Service)
	}
	show("/v2/items", nil, 1<<63) // the middle of the random words
	show("/v2/items", nil, 1<<64-1)
	show("/v1/items", http.Header{"X-Tester": {"ann"}}, 0)
	show("/v1/items", nil, 0)
	show("/v1/../v2/items", nil, 0)
	// Output:
	// /v2/items -> canary orders
	// /v2/items -> canary orders-next
	// /v1/items -> testers orders-next
	// /v1/items -> no rule
	// /v1/../v2/items -> no rule
}

func ExampleCompile_mistakes() {
	_, err := routing.Compile([]routing.Rule{
		{Name: "a", Match: routing.Match{Path: routing.Path{Prefix: "v1"}}},
		{Name: "a", Backends: []routing.Backend{{Service: "x"}, {Service: "y"}}},
	})
	fmt.Println(err)
	// Output:
	// routes[0].match.path.prefix: must start with "/"
	// routes[1].backends: every weight is 0
	// routes[1].name: "a" is already the name of routes[0]
}

func ExampleTable_Explain() {
	table, err := routing.Compile([]routing.Rule{
		{
			Name:     "testers",
			Match:    routing.Match{Service: "orders", Path: routing.Path{Prefix: "/v2"}, Headers: []routing.Field{{Name: "x-tester", Present: true}}},
			Backends: []routing.Backend{{Service: "orders-next"}},
		},
		{Name: "old", Match: routing.Match{Service: "orders", Path: routing.Path{Exact: "/v1"}}, Backends: []routing.Backend{{Service: "orders-old"}}},
		{Name: "rest", Match: routing.Match{Service: "orders"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	e := table.Explain(&routing.Request{Service: "orders", Path: "/v2/items"}, 0)
	for _, s := range e.Steps {
		fmt.Println(s.Name, "-", s.Why)
	}
	fmt.Println(table.Rule(e.Rule).Name, "-", e.Why)
	// Output:
	// old - path: "/v2/items" is not "/v1"
	// testers - headers[0]: X-Tester is ""
	// rest - no backends: the call stays with the service
}

func ExampleSplit() {
	table, err := routing.Compile([]routing.Rule{{
		Match:    routing.Match{Service: "orders"},
		Split:    routing.Split{Key: []routing.Key{{Header: "x-user"}}},
		Backends: []routing.Backend{{Service: "orders", Weight: 50}, {Service: "orders-next", Weight: 50}},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := routing.Request{Service: "orders", Header: http.Header{"X-User": {"ann"}}}
	fmt.Println(table.Route(&r, 0) == table.Route(&r, 1<<64-1)) // chance has no say
	// Output:
	// true
}
