package testenv

import (
	"runtime"
	"testing"
)

// recorder is a testing.TB that notes how a test was ended.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) Helper()               {}
func (r *recorder) Skipf(string, ...any)  { r.ended = "skipped"; runtime.Goexit() }
func (r *recorder) Fatalf(string, ...any) { r.ended = "failed"; runtime.Goexit() }

func TestNeed(t *testing.T) {
	for _, test := range []struct{ require, what, want string }{
		{"", "consul", "skipped"},
		{"ebpf", "consul", "skipped"},
		{"consuls", "consul", "skipped"},
		{"consul", "consul", "failed"},
		{"ebpf, consul", "consul", "failed"},
	} {
		t.Setenv("ZEROHOP_REQUIRE", test.require)
		r := new(recorder)
		done := make(chan struct{})
		go func() {
			defer close(done)
			Need(r, test.what, "it is not there")
		}()
		<-done
		if got := r.ended; got != test.want {
			t.Errorf("with ZEROHOP_REQUIRE=%q the test %s, want %s", test.require, got, test.want)
		}
	}
}
