package loader

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cilium/ebpf/link"
)

const cgroup2Magic = 0x63677270

// cgroup2Mount returns where the hierarchy of cgroup v2 is mounted.
func cgroup2Mount() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", errors.New("cgroup v2 is not mounted")
}

// checkCgroup returns an error if the directory is not that of a cgroup that may be attached to.
func checkCgroup(dir string, allowRoot bool) error {
	if dir == "" {
		return errors.New("none is given")
	}
	var where syscall.Statfs_t
	if err := syscall.Statfs(dir, &where); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if what, err := os.Stat(dir); err != nil {
		return err
	} else if uint32(where.Type) != cgroup2Magic || !what.IsDir() {
		return fmt.Errorf("%s is not the directory of a cgroup of version 2", dir)
	}
	if !allowRoot && isRootCgroup(dir) {
		return fmt.Errorf("%s is the root: all programs of the host could opt in", dir)
	}
	return nil
}

// isRootCgroup reports whether the cgroup is the root, which alone has no type.
func isRootCgroup(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	return errors.Is(err, fs.ErrNotExist)
}

// cgroupID returns the id of a cgroup, which is the inode of its directory.
func cgroupID(dir string) (uint64, error) {
	var what syscall.Stat_t
	if err := syscall.Stat(dir, &what); err != nil {
		return 0, fmt.Errorf("loader: %s: %w", dir, err)
	}
	return what.Ino, nil
}

// cgroupOf returns the id of the cgroup that a link attaches to.
func cgroupOf(l link.Link) (uint64, error) {
	info, err := l.Info()
	if err != nil {
		return 0, fmt.Errorf("loader: link: %w", err)
	}
	if info.Cgroup() == nil {
		return 0, errors.New("loader: the link is not one to a cgroup")
	}
	return info.Cgroup().CgroupId, nil
}

// cgroupPath returns the directory of a cgroup, or what else there is to say of it.
func cgroupPath(id uint64) string {
	if id == 0 {
		return "(gone)"
	}
	found := fmt.Sprintf("(gone, id %d)", id)
	root, err := cgroup2Mount()
	if err != nil {
		return found
	}
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // Cgroups come and go meanwhile.
		}
		if got, err := cgroupID(path); err == nil && got == id {
			found = path
			return fs.SkipAll
		}
		return nil
	})
	return found
}
