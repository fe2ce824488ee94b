package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"time"
)

// The environment variables that make this program a backend.
const (
	nameVariable     = "QUICKSTART_BACKEND"
	registryVariable = "QUICKSTART_REGISTRY"
)

// process is a backend seen from outside.
type process struct {
	name  string
	state string // what it was told last

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	ending atomic.Bool
	ended  chan struct{} // closed when the process is gone
}

// start runs a backend. executed is called with the tag of each call that reaches it, and lost if it ends unasked.
func start(name, registry string, executed func(tag string), lost context.CancelCauseFunc) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, state: beHealthy, cmd: exec.Command(self), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), nameVariable+"="+name, registryVariable+"="+registry)
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process, which stop and kill wait for
		defer close(p.ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			executed(lines.Text())
		}
		_ = p.cmd.Wait() // ProcessState says more
		if !p.ending.Load() {
			lost(fmt.Errorf("backend %s ended unasked: %v", name, p.cmd.ProcessState))
		}
	}()
	return p, nil
}

// tell changes how the backend behaves.
func (p *process) tell(state string) error {
	p.state = state
	_, err := fmt.Fprintln(p.stdin, state)
	return err
}

// kill ends the process as kill -9 does: it gets no chance to say goodbye to its callers or the registry.
func (p *process) kill() error {
	p.state = beKilled
	p.ending.Store(true)
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.ended
	return nil
}

// quit asks the process to end, and stop waits for it, though not for ever.
func (p *process) quit() {
	p.ending.Store(true)
	_ = p.stdin.Close() // fails if the process is gone, which is what we want
}

func (p *process) stop() {
	p.quit()
	select {
	case <-p.ended:
	case <-time.After(2 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}
