package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/zerohop/zerohop/ebpfaccel"
)

// Doctor looks at all that [Up] needs and changes nothing. Up refuses what is neither OK nor unknown.
func Doctor(config Config) []Finding {
	findings := []Finding{
		finding("kernel", "fit", ebpfaccel.CheckHost()),
		finding("structures", "has all that is read", checkStructures()),
		finding("capabilities", "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", checkCapabilities()),
		finding("cgroup", config.Cgroup, checkCgroup(config.Cgroup, config.AllowRoot)),
		finding("pins", config.pins(), checkPlace(config.pins())),
	}
	others := finding("other programs", "no other program handles messages of sockets", checkOthers())
	others.Unknown = !others.OK && !strings.HasPrefix(others.Detail, othersFound)
	return append(findings, others)
}

func finding(subject, good string, err error) Finding {
	if err != nil {
		return Finding{Subject: subject, Detail: strings.TrimPrefix(err.Error(), "ebpfaccel: ")}
	}
	return Finding{Subject: subject, OK: true, Detail: good}
}

// checkStructures looks for what the version of a kernel does not tell, as fixes are carried to other versions.
func checkStructures() error {
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("no BTF: %w", err)
	}
	var psock *btf.Struct
	if err := kernel.TypeByName("sk_psock", &psock); err != nil {
		return errors.New("the kernel has no sockmap: it needs CONFIG_NET_SOCK_MSG and CONFIG_BPF_SYSCALL")
	}
	for _, m := range psock.Members {
		if m.Name == "msg_tot_len" {
			return nil
		}
	}
	return errors.New("the kernel does not count what is queued at a socket: it needs sk_psock.msg_tot_len, which came early in 2026")
}

func checkCapabilities() error {
	var own syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/user", &own); err != nil {
		return err
	}
	if own.Ino != initialUserNamespace {
		return errors.New("this process is in a user namespace of its own, such as that of a container: its capabilities are none for this")
	}
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	var effective uint64
	for line := range strings.Lines(string(data)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			if effective, err = strconv.ParseUint(strings.TrimSpace(hex), 16, 64); err != nil {
				return err
			}
		}
	}
	return lacking(effective)
}

// initialUserNamespace is the inode that the kernel gives the first one.
const initialUserNamespace = 0xeffffffd

// lacking names the capabilities that are wanted and not in the set.
func lacking(effective uint64) error {
	const admin = 21 // CAP_SYS_ADMIN, which includes BPF and PERFMON
	var names []string
	for _, c := range []struct {
		bit  int
		name string
		also int
	}{{39, "CAP_BPF", admin}, {12, "CAP_NET_ADMIN", 12}, {38, "CAP_PERFMON", admin}} {
		if effective&(1<<c.bit|1<<c.also) == 0 {
			names = append(names, c.name)
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("lacks %s", strings.Join(names, ", "))
}

// checkPlace looks at the directory of the pins, or the one to make it in.
func checkPlace(pins string) error {
	file, err := openDir(pins)
	if err == nil {
		defer file.Close()
		return checkPins(file)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent, err := os.Open(filepath.Dir(pins))
	if err != nil {
		return err
	}
	defer parent.Close()
	if ok, err := isBPF(parent); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("%s is not in a BPF file system: mount -t bpf bpf /sys/fs/bpf", filepath.Dir(pins))
	}
	return nil
}

const othersFound = "other programs"

// checkOthers looks for programs that would get in each other's way: a socket can have one.
func checkOthers() error {
	var found []string
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return fmt.Errorf("cannot be listed, which takes CAP_SYS_ADMIN: %w", err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if name := nameOf(p); (p.Type() == ebpf.SkMsg || p.Type() == ebpf.SkSKB) && name != accelProgZerohopSend {
			found = append(found, fmt.Sprintf("%s (%s, id %d)", name, p.Type(), id))
		}
		p.Close()
	}
	if found == nil {
		return nil
	}
	return fmt.Errorf("%s handle messages of sockets: %s", othersFound, strings.Join(found, ", "))
}

func nameOf(p *ebpf.Program) string {
	info, err := p.Info()
	if err != nil {
		return "(unknown)"
	}
	return info.Name
}
