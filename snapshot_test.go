package zerohop

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
)

func TestSnapshotServesAStartWhileTheSourceIsOut(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		source := &discoverytest.Memory{}
		source.Set("orders", endpoints(3)...)
		cfg := Config{Resolver: source, Snapshot: discovery.Snapshot{Dir: dir, MaxAge: time.Hour}}
		before := open(t, cfg)
		if err := ping(t.Context(), before, "orders"); err != nil {
			t.Fatal(err)
		}
		before.Close()
		if err := before.SnapshotErr(); err != nil {
			t.Fatal(err)
		}

		source.Break(errors.New("down"))
		var kinds []discovery.EventKind
		var lost time.Time
		cfg.Hooks.Discovery = func(_ string, ev discovery.Event) {
			kinds = append(kinds, ev.Kind)
			if ev.Kind == discovery.EventSnapshotUsed {
				lost = ev.Lost
			}
		}
		m := open(t, cfg)
		m.service("orders")
		time.Sleep(time.Second)
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Errorf("call after a start without the source = %v", err)
		}
		if state, _ := m.Discovery("orders"); state.Endpoints != 3 || state.Lost.IsZero() || lost.IsZero() {
			t.Errorf("state %+v, events %v, want the three of the snapshot and its age", state, kinds)
		}
		source.Set("orders")
		source.Break(nil)
		time.Sleep(3 * time.Second)
		if state, _ := m.Discovery("orders"); state.Endpoints != 3 || state.Held != 3 || !state.Lost.IsZero() {
			t.Errorf("state %+v after an empty first answer, want it held", state)
		}
		source.Set("orders", endpoints(2)...)
		time.Sleep(10 * time.Second)
		if state, _ := m.Discovery("orders"); state.Endpoints != 2 {
			t.Errorf("state %+v, want the answer in place of the snapshot", state)
		}
		if set, _, err := cfg.Snapshot.Load("orders"); err != nil || len(set) != 2 {
			t.Errorf("Load() = %v, %v, want what the source lists", set, err)
		}
		m.Close()
	})
}

func TestSnapshotThatCannotBeWrittenHurtsNothing(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := open(t, Config{Resolver: orders(1), Snapshot: discovery.Snapshot{Dir: file}})
	if err := ping(t.Context(), m, "orders"); err != nil {
		t.Error(err)
	}
	m.Close()
	if m.SnapshotErr() == nil {
		t.Error("SnapshotErr() = nil, want why there is none")
	}
}

func TestSnapshotIsWrittenWhenTheDiskIsBack(t *testing.T) {
	dir := t.TempDir() + "/dir"
	synctest.Test(t, func(t *testing.T) {
		source := &discoverytest.Memory{}
		source.Set("orders", endpoints(3)...)
		snapshot := discovery.Snapshot{Dir: dir}
		m := open(t, Config{Resolver: source, Snapshot: snapshot})
		defer m.Close()
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		old, err := os.ReadFile(onlyFile(t, dir))
		if err != nil {
			t.Fatal(err)
		}

		if err := errors.Join(os.Rename(dir, dir+"2"), os.WriteFile(dir, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		source.Set("orders", endpoints(2)...)
		time.Sleep(2 * time.Second)
		if m.SnapshotErr() == nil {
			t.Fatal("SnapshotErr() = nil, want why there is none")
		}
		if err := errors.Join(os.Remove(dir), os.Rename(dir+"2", dir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * snapshotConfirm)
		if now, err := os.ReadFile(onlyFile(t, dir)); err != nil || string(now) == string(old) {
			t.Errorf("the file has the set from before (%v), want that in use", err)
		}
		if set, _, err := snapshot.Load("orders"); err != nil || len(set) != 2 {
			t.Errorf("Load() = %v, %v, want the set in use", set, err)
		}
		if err := m.SnapshotErr(); err != nil {
			t.Errorf("SnapshotErr() = %v, want none any more", err)
		}
	})
}

// onlyFile returns the path of the file in dir.
func onlyFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v, want one", files, err)
	}
	return dir + "/" + files[0].Name()
}

func TestSnapshotHasASetThatWasDoubtedAndConfirmed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		source := &discoverytest.Memory{}
		source.Set("orders", endpoints(8)...)
		snapshot := discovery.Snapshot{Dir: dir}
		m := open(t, Config{Resolver: source, Snapshot: snapshot})
		defer m.Close()
		if err := ping(t.Context(), m, "orders"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		source.Set("orders", endpoints(12)[6:]...) // six are held
		time.Sleep(2 * time.Second)
		if set, _, err := snapshot.Load("orders"); err != nil || len(set) != 8 {
			t.Errorf("Load() = %d endpoints, %v, want what was last sure", len(set), err)
		}
		source.Set("orders", endpoints(12)...)
		time.Sleep(2 * time.Second)
		if set, _, err := snapshot.Load("orders"); err != nil || len(set) != 12 {
			t.Errorf("Load() = %d endpoints, %v, want those that are listed and in use", len(set), err)
		}
	})
}
