package xds

import (
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
)

// refusalInterval is the least time between two refusals of one type. Control planes answer a refusal by saying the same again
// at once: without it, one bad resource would keep both sides busy.
const refusalInterval = time.Second

// subscription is what a stream has asked for of one type, and what it was told.
type subscription struct {
	typeURL string
	// first are the names of the first request, sent those of the last.
	first, sent []string
	// version is that of the last answer that was accepted, nonce that of the last answer.
	version, nonce string
	// answered is set by the first answer, owed by one that was neither acknowledged nor refused yet.
	answered, owed bool
	// refusal says what is wrong with the last answer, "" if it was accepted; refused is when the last one was sent.
	refusal string
	refused time.Time
	pace    pacer
}

// next returns the request to be sent now, nil if there is none, and in how long to ask again if that is only a matter of time.
// watches says how many services share the stream: each may cost one request a second, and all together ten. inRow is how many may
// go out at once.
func (sub *subscription) next(now time.Time, want []string, watches, inRow int) (*discoveryv3.DiscoveryRequest, time.Duration) {
	// Without names the request would be one for all there is.
	if len(want) == 0 {
		want = sub.sent
	}
	if len(want) == 0 || !sub.owed && slices.Equal(want, sub.sent) {
		return nil, 0
	}
	interval := time.Second / time.Duration(min(max(watches, 1), 10))
	wait := sub.pace.wait(now, time.Duration(inRow-1)*interval)
	if sub.owed && sub.refusal != "" {
		wait = max(wait, sub.refused.Add(refusalInterval).Sub(now))
	}
	if wait > 0 {
		return nil, wait
	}
	sub.pace.spend(interval)
	if sub.sent == nil {
		sub.first = want
	}
	sub.sent, sub.owed = want, false
	req := &discoveryv3.DiscoveryRequest{
		VersionInfo:   sub.version,
		ResourceNames: want,
		TypeUrl:       sub.typeURL,
		ResponseNonce: sub.nonce,
	}
	if sub.refusal != "" {
		sub.refused = now
		req.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: sub.refusal}
	}
	return req, 0
}

// took notes an answer and what is wrong with it.
func (sub *subscription) took(resp *discoveryv3.DiscoveryResponse, refusal string) {
	sub.answered, sub.owed, sub.nonce, sub.refusal = true, true, resp.GetNonce(), refusal
	if refusal == "" {
		sub.version = resp.GetVersionInfo()
	}
}
