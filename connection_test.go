package zerohop

import (
	"testing"
	"testing/synctest"
)

func TestConnectionsAreNotToldOfAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, goOn := 0, make(chan struct{})
		m, err := New(Config{Resolver: orders(1), Hooks: Hooks{Connection: func(string, ConnectionEvent) {
			told++
			<-goOn
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if !m.ObservesConnections() {
			t.Error("ObservesConnections() = false")
		}
		go m.Connected("orders", ConnectionEvent{})
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			m.Close()
			close(closed)
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close() did not wait for the hook")
		default:
		}
		close(goOn)
		<-closed
		if m.Connected("orders", ConnectionEvent{}); told != 1 {
			t.Errorf("told of %d connections, want 1", told)
		}
	})
}
