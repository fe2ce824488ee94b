package loader

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// The default settings. A queue of limit bytes and a message more is what a reader that stops costs, about what TCP buffers. A
// message costs the kernel some 1 KB beside its bytes. Calls whose messages are larger than streamBytes are faster over TCP;
// those in more than streamMessages are most likely no calls.
var defaults = accelSettings{Limit: 1 << 20, Messages: 4096, Hold: 256, StreamBytes: 4 << 20, StreamMessages: 1024}

// The names of the pinned links.
const (
	eventLink = "link_event"
	optInLink = "link_opt_in"
	tellLink  = "link_tell"
)

// Up loads the accelerator and pins it. Where one is up already it takes its place: connections go on, those of before with the
// programs they have. It returns a [*ebpfaccel.NotSupportedError] if the host, the process or the cgroup lack something.
func Up(ctx context.Context, config Config) (Status, error) {
	if err := missing(Doctor(config)); err != nil {
		return Status{}, err
	}
	var err error
	if config.Cgroup, err = filepath.EvalSymlinks(config.Cgroup); err != nil { // The self-test makes another one beside it.
		return Status{}, fmt.Errorf("loader: cgroup: %w", err)
	}
	if config.SelfTest != nil {
		if err := selfTest(ctx, config); err != nil {
			return Status{}, fmt.Errorf("loader: self-test: %w", err)
		}
	}
	dir, err := openPins(config.pins(), true)
	if err != nil {
		return Status{}, err
	}
	defer dir.Close()
	if err := dir.lock(); err != nil {
		return Status{}, err
	}
	if err := dir.holds(config.Cgroup); err != nil { // before anything of it is changed
		return Status{}, err
	}
	objects, err := loadOver(dir)
	if err != nil {
		return Status{}, err
	}
	defer objects.Close()
	if err := objects.Setting.Put(uint32(0), defaults); err != nil {
		return Status{}, fmt.Errorf("loader: settings: %w", err)
	}
	if err := attachSend(objects); err != nil {
		return Status{}, err
	}
	for _, a := range attachments(objects) {
		if err := a.pin(dir, config.Cgroup); err != nil {
			return Status{}, err
		}
	}
	return dir.status()
}

// loadOver loads the programs, with the maps in dir as far as they are as wanted, and pins the other maps.
func loadOver(dir *pinDir) (*accelObjects, error) {
	spec, err := loadAccel()
	if err != nil {
		return nil, err
	}
	old := make(map[string]*ebpf.Map)
	defer func() {
		for _, m := range old {
			m.Close()
		}
	}()
	compatible := true
	for name, want := range spec.Maps {
		m, err := dir.loadMap(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		old[name] = m
		if err := want.Compatible(m); err != nil {
			compatible = false
		}
	}
	if !compatible {
		// The maps of another version. Its connections keep them; but listeners that were marked stay so.
		for name, m := range old {
			if name != accelMapMarks {
				m.Close()
				delete(old, name)
			}
		}
	}
	objects := new(accelObjects)
	if err := spec.LoadAndAssign(objects, &ebpf.CollectionOptions{MapReplacements: old}); err != nil {
		return nil, fmt.Errorf("loader: %w", err)
	}
	for name, m := range objects.byName() {
		if old[name] != nil {
			continue
		}
		if err := dir.pin(name, m); err != nil {
			objects.Close()
			return nil, err
		}
	}
	return objects, nil
}

func (o *accelObjects) byName() map[string]*ebpf.Map {
	return map[string]*ebpf.Map{
		accelMapConns: o.Conns, accelMapCounts: o.Counts, accelMapMarks: o.Marks,
		accelMapSetting: o.Setting, accelMapSockets: o.Sockets, accelMapStates: o.States,
	}
}

// attachSend makes the program that redirects that of the sockets which join from now on.
func attachSend(o *accelObjects) error {
	err := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: o.Sockets.FD(), Program: o.ZerohopSend, Attach: ebpf.AttachSkMsgVerdict,
	})
	if err != nil {
		return fmt.Errorf("loader: attach to sockets: %w", err)
	}
	return nil
}

// An attachment is a program and the place in a cgroup where it is to run.
type attachment struct {
	name    string
	at      ebpf.AttachType
	program *ebpf.Program
}

// attachments lists them in the order to attach: a socket that is marked finds the program that lets it join.
func attachments(o *accelObjects) []attachment {
	return []attachment{
		{eventLink, ebpf.AttachCGroupSockOps, o.ZerohopEvent},
		{tellLink, ebpf.AttachCGroupGetsockopt, o.ZerohopTell},
		{optInLink, ebpf.AttachCGroupSetsockopt, o.ZerohopOptIn},
	}
}

func (a attachment) attach(cgroup string) (link.Link, error) {
	l, err := link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: a.at, Program: a.program})
	if err != nil {
		return nil, fmt.Errorf("loader: attach to cgroup: %w", err)
	}
	return l, nil
}

// holds returns an error if the accelerator in the directory is for another cgroup.
func (d *pinDir) holds(cgroup string) error {
	want, err := cgroupID(cgroup)
	if err != nil {
		return err
	}
	for _, a := range attachments(new(accelObjects)) {
		l, err := d.loadLink(a.name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		id, err := cgroupOf(l)
		l.Close()
		if err != nil {
			return err
		}
		if id != want {
			return fmt.Errorf("loader: %s holds an accelerator for cgroup %s: take it down first, or use another directory for pins",
				d.path, cgroupPath(id))
		}
	}
	return nil
}

// pin attaches the program for good, in the place of that of an earlier Up.
func (a attachment) pin(dir *pinDir, cgroup string) error {
	l, err := dir.loadLink(a.name)
	if errors.Is(err, os.ErrNotExist) {
		if l, err = a.attach(cgroup); err != nil {
			return err
		}
		defer l.Close()
		return dir.pin(a.name, l)
	} else if err != nil {
		return err
	}
	defer l.Close()
	if err := l.Update(a.program); err != nil {
		return fmt.Errorf("loader: replace %s: %w", a.name, err)
	}
	return nil
}

const selfTestCgroup = "zerohop-selftest-"

// removeKilled removes the cgroups of self-tests that were killed.
func removeKilled(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, selfTestCgroup+"*"))
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), selfTestCgroup), "-")
		if n, err := strconv.Atoi(pid); err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			os.Remove(dir)
		}
	}
}

// selfTest runs the self-test with programs and maps of its own, in a cgroup beside the one that is meant.
func selfTest(ctx context.Context, config Config) error {
	cgroup, err := filepath.Abs(config.Cgroup)
	if err != nil {
		return err
	}
	parent := filepath.Dir(cgroup)
	if isRootCgroup(cgroup) {
		parent = cgroup
	}
	removeKilled(parent)
	cgroup, err = os.MkdirTemp(parent, fmt.Sprint(selfTestCgroup, os.Getpid(), "-*"))
	if err != nil {
		return err
	}
	defer os.Remove(cgroup)
	place, err := os.Open(cgroup)
	if err != nil {
		return err
	}
	defer place.Close()

	objects := new(accelObjects)
	if err := loadAccelObjects(objects, nil); err != nil {
		return err
	}
	defer objects.Close()
	if err := attachSend(objects); err != nil {
		return err
	}
	for _, a := range attachments(objects) {
		l, err := a.attach(cgroup)
		if err != nil {
			return err
		}
		defer l.Close()
	}
	// First with what real traffic gets, then with connections that change between both ways all the time.
	for _, settings := range []accelSettings{defaults, {Limit: 16 << 10, Messages: 16, Hold: 4}} {
		if err := objects.Setting.Put(uint32(0), settings); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "/proc/self/exe", config.SelfTest...)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(place.Fd()), Pdeathsig: syscall.SIGKILL}
		if out, err := cmd.CombinedOutput(); len(out) > 0 && err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		} else if err != nil {
			return err
		}
		c, err := readCounters(objects.Counts)
		if err != nil {
			return err
		}
		if c.RedirectedBytes < selfTestBytes || c.Refused > 0 || c.Stranger > 0 {
			return fmt.Errorf("%d bytes went past TCP, want at least %d: %+v", c.RedirectedBytes, selfTestBytes, c)
		}
	}
	return nil
}
