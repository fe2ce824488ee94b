// Package simulate shows how to test a policy before it is deployed: what becomes of the calls to a service that loses half
// of its capacity for ten seconds.
//
//	go test -v -run Survives ./examples/simulate
//	go test -run PolicySurvivesBrownOut ./examples/simulate -args -svg brownout.svg
//
// The policy is the value that the program would give to zerohop.New. Change it and see.
package simulate

import (
	"time"

	"github.com/zerohop/zerohop"
)

// policy is the defaults with fewer attempts. Above all it does not limit how long one may take: to give up what waits in a
// queue does not make the queue shorter, as the server works on it for nobody.
var policy = zerohop.Spec{
	Services: map[string]zerohop.Policy{
		"orders": {Retry: zerohop.Retry{Attempts: 2}},
	},
}

// plain is what many have instead: four attempts, each with its limit of time, and no budget.
var plain = zerohop.Spec{
	Services: map[string]zerohop.Policy{
		"orders": {
			AttemptTimeout: 300 * time.Millisecond,
			Retry:          zerohop.Retry{Attempts: 4},
			Budget:         zerohop.Budget{Mode: zerohop.Off},
		},
	},
}
