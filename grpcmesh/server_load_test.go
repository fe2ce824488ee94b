package grpcmesh

import (
	"context"
	"encoding/hex"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/httpmesh"
)

// The bytes are what proto.Marshal makes of the same figures in an OrcaLoadReport of github.com/cncf/xds.
func TestLoadReportIsThatOfORCA(t *testing.T) {
	full := LoadReport(httpmesh.LoadReport{ // converts, as both have the same fields
		Application: 0.5, CPU: 0.7, Memory: 0.25, Requests: 1234, Errors: 0.5,
		Utilization: map[string]float64{"disk": 0.1}, Named: map[string]float64{"queue": 3},
	})
	const want = "09666666666666e63f" + "11000000000000d03f" + "2a0f0a046469736b119a9999999999b93f" + "31000000000048934039000000000000e03f" +
		"42100a0571756575651100000000000008" + "4049000000000000e03f"
	if got := hex.EncodeToString([]byte(full.encode(0, 0))); got != want {
		t.Errorf("encode(0, 0) = %s, want %s", got, want)
	}
	for _, r := range []LoadReport{
		{},
		{CPU: -1, Memory: math.NaN(), Requests: math.Inf(1), Errors: math.Inf(-1)},
		{Named: map[string]float64{"": 1, "\xff": 1, "zero": 0}},
	} {
		if got := r.encode(0, 0); got != "" {
			t.Errorf("%+v: encode(0, 0) = %x, want nothing", r, got)
		}
	}
}

// Every answer tells the load: of unary calls and streams, refused or not.
func TestAnswersCarryTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, half := range []*Server{{}, {MinTime: time.Hour}} {
			report := LoadReport{CPU: 0.7}
			half.Load = func() LoadReport { return report }
			b := served(t, 1, zerohop.Config{}, half.ServerOptions()...)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, trailers := ask(ctx, b.client)
			for i, md := range trailers {
				if got := md.Get(loadKey); len(got) != 1 || got[0] != report.encode(0, 0) {
					t.Errorf("call %d: load %q, want %q", i, got, report.encode(0, 0))
				}
			}
			report = LoadReport{}
			_, trailers = ask(ctx, b.client)
			for i, md := range trailers {
				if got := md.Get(loadKey); len(got) != 0 {
					t.Errorf("call %d: load %q, want none", i, got)
				}
			}
		}
	})
}
