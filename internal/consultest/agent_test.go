//go:build unix

package consultest

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAgentLivesThroughSignals(t *testing.T) {
	for name, opts := range map[string]Options{"open": {}, "ACL": {ACL: true}} {
		t.Run(name, func(t *testing.T) {
			a := Start(t, opts)
			token := ""
			if opts.ACL {
				token = ManagementToken
			}
			config := a.Config(token)
			client, err := api.NewClient(config)
			if err != nil {
				t.Fatal(err)
			}
			defer config.Transport.CloseIdleConnections()
			self := func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				_, err := client.Agent().ServicesWithFilterOpts("", new(api.QueryOptions).WithContext(ctx))
				return err
			}
			if err := self(); err != nil {
				t.Errorf("running agent: %v", err)
			}
			a.Stop(t)
			if self() == nil {
				t.Error("a stopped agent answers")
			}
			a.Cont(t)
			a.Kill(t)
			if self() == nil {
				t.Error("a killed agent answers")
			}
			a.Restart(t)
			if err := self(); err != nil {
				t.Errorf("restarted agent: %v", err)
			}
		})
	}
}
