package incident

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestBreachWritesOneDumpPerCoolDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		breaches := make(chan Breach, 100)
		r := open(t, Config{
			Instance: "web-1", Dir: dir, OnBreach: func(b Breach) { breaches <- b },
			SLOs: []SLO{{Service: "orders", Objective: 0.999, Latency: time.Second}, {Service: "stock", Objective: 0.99}},
		})
		h := r.Hooks()
		run := func(seconds int, took time.Duration, err error) {
			for range seconds {
				for range 20 {
					call(h, "orders", took, err)
					call(h, "stock", 0, nil)
				}
				time.Sleep(time.Second)
			}
		}
		run(300, 0, nil)
		if len(breaches) != 0 {
			t.Fatalf("%d breaches while all was well", len(breaches))
		}
		begin := time.Now()
		run(60, 0, errBroken)
		if len(breaches) != 1 {
			t.Fatalf("%d breaches, want 1", len(breaches))
		}
		b := <-breaches
		if b.SLO.Service != "orders" || b.Long < b.Burn.Rate || b.Short < b.Burn.Rate || b.Burn.Rate < 6 || b.Err != nil {
			t.Errorf("breach = %+v", b)
		}
		// 1.44 % of the calls of the windows: 300 s were well.
		if after := b.Time.Sub(begin); after > 10*time.Second {
			t.Errorf("noticed after %v", after)
		}
		info, err := os.Stat(b.File)
		if err != nil || info.Mode().Perm() != 0o600 || !strings.HasPrefix(filepath.Base(b.File), "incident-2000") || !strings.HasSuffix(b.File, "-web-1.jsonl.gz") {
			t.Errorf("file %q: %v, %v", b.File, info, err)
		}
		f, err := os.Open(b.File)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		d, err := Read(f, b.File)
		if err != nil || d.Header.Why != "slo" || len(d.of(KindBreach)) != 1 {
			t.Errorf("Read() = %v, want the dump of a breach", err)
		}
		run(600, 2*time.Second, nil) // too slow is missed too
		if len(breaches) != 1 {
			t.Errorf("%d more breaches, want 1 after the cool-down", len(breaches))
		}
		if s := r.Stats(); s.Breaches != 2 || s.Saved != 2 {
			t.Errorf("Stats() = %+v", s)
		}
		r.Close()
	})
}

func TestBreachNeedsCallsAndBothWindows(t *testing.T) {
	w := newWatch(SLO{Objective: .9, MinCalls: 10, Burns: []Burn{{time.Minute, 10 * time.Second, 2}}})
	w.count(9, 9)
	if _, _, _, missed := w.look(0); missed {
		t.Error("missed by 9 calls, want 10")
	}
	w.count(91, 0)
	if _, _, _, missed := w.look(2 * time.Second); missed {
		t.Error("missed by 9 % failed calls, want 20 %")
	}
	w.count(100, 50)
	_, long, short, missed := w.look(14 * time.Second)
	if !missed || math.Abs(short-5) > 1e-9 || math.Abs(long-2.95) > 1e-9 {
		t.Errorf("look() = long %v, short %v, %v, want 2.95 and 5", long, short, missed)
	}
	if _, long, _, missed := w.look(26 * time.Second); missed || long != 0 {
		t.Errorf("missed %v by a short window without calls", missed)
	}
	w.count(10, 10)
	if _, long, short, _ := w.look(time.Hour); math.Abs(long-10) > 1e-9 || math.Abs(short-10) > 1e-9 {
		t.Errorf("after an hour long = %v, short %v, want only what is new", long, short)
	}
}

func TestBreachIsToldOfWithoutADump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		breaches := make(chan Breach, 10)
		r := open(t, Config{
			Dir: filepath.Join(file, "dir"), OnBreach: func(b Breach) { breaches <- b }, // which cannot be made
			SLOs: []SLO{{Objective: .9, MinCalls: 1, Burns: []Burn{{time.Second, time.Second, 1}}}},
		})
		call(r.Hooks(), "orders", 0, errBroken)
		time.Sleep(3 * time.Second)
		if b := <-breaches; b.File != "" || b.Err == nil {
			t.Errorf("breach = %+v, want an error", b)
		}
		if s := r.Stats(); s.Failed != 1 {
			t.Errorf("Stats() = %+v, want a failed dump", s)
		}
		call(r.Hooks(), "orders", 0, nil)
		r.Close()
	})
}

func TestBreachOutlivesOnBreach(t *testing.T) {
	for name, ends := range map[string]func(){"panics": func() { panic("no pager") }, "ends its goroutine": runtime.Goexit} {
		synctest.Test(t, func(t *testing.T) {
			var told atomic.Int32
			r := open(t, Config{
				OnBreach: func(Breach) { told.Add(1); ends() }, CoolDown: time.Second,
				SLOs: []SLO{{Objective: .9, MinCalls: 1, Burns: []Burn{{time.Second, time.Second, 1}}}},
			})
			for range 2 {
				call(r.Hooks(), "orders", 0, errBroken)
				time.Sleep(5 * time.Second)
			}
			if s := r.Stats(); s.Breaches != 2 || told.Load() != 2 || s.Panics != 2*uint64(len(dump(t, r).of(KindNote))/2) || name == "panics" && s.Panics != 2 {
				t.Errorf("%s: told %d times, Stats() = %+v, want 2 breaches", name, told.Load(), s)
			}
			r.Close()
		})
	}
}
