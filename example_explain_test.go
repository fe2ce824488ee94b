package zerohop_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/loadbalance"
)

// A call that failed says why.
func ExampleExplain() {
	mesh, err := zerohop.New(zerohop.Config{Resolver: discovery.Static{"ledger": {{Addr: "10.0.0.1:80"}}}})
	if err != nil {
		log.Fatal(err)
	}
	defer mesh.Close()

	_, err = zerohop.Do(context.Background(), mesh, "ledger", func(context.Context, *loadbalance.Node) (int, error) {
		return 0, errors.New("disk full")
	})
	e := zerohop.Explain(err)
	fmt.Println(e.Reason, "/", e.Detail, "/", e.Flag)
	for _, try := range e.Tries[:e.N] {
		fmt.Println(try.Addr, try.Outcome, try.Error, "chosen from", try.Choice.Nodes)
	}
	// fmt.Println(e) is a text for people.

	// Output:
	// failed / not safe to repeat / US
	// 10.0.0.1:80 failure disk full chosen from 1
}
