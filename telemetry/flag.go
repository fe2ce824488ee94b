package telemetry

import "github.com/zerohop/zerohop"

// flagOf returns why a call ended as it did in Envoy's vocabulary, empty if its first attempt was answered.
func flagOf(call *zerohop.CallInfo, r *zerohop.CallResult) zerohop.Flag { return r.Flag() }

// textOf returns the text of an explanation.
func textOf(e *zerohop.Explanation) string { return e.String() }
