package main

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// addresses are where servers listen.
type addresses struct{ otlp, metrics, prometheus string }

// usual are the addresses in otelcol.yaml and prometheus.yml, and the usual one of Prometheus.
var usual = addresses{"127.0.0.1:4318", "127.0.0.1:8889", "127.0.0.1:9090"}

var (
	//go:embed otelcol.yaml
	collectorConfig string
	//go:embed prometheus.yml
	prometheusConfig string
	//go:embed rules.yaml
	rules string
)

// servers are the processes of a Collector and of Prometheus.
type servers struct {
	dir      string
	commands []*exec.Cmd
}

// startServers starts them, with what they need in a folder of its own.
func startServers(at addresses) (*servers, error) {
	collector, err := find("ZEROHOP_OTELCOL", "otelcol", "otelcol-*/otelcol")
	if err != nil {
		return nil, fmt.Errorf("%w; build one with tools/otelcol/build.sh", err)
	}
	prometheus, err := find("ZEROHOP_PROMETHEUS", "prometheus", "")
	if err != nil {
		return nil, fmt.Errorf("%w; on Debian it is in the package prometheus", err)
	}
	s := &servers{}
	if s.dir, err = os.MkdirTemp("", "zerohop-observability"); err != nil {
		return nil, err
	}
	place := strings.NewReplacer(usual.otlp, at.otlp, usual.metrics, at.metrics)
	for name, text := range map[string]string{
		"otelcol.yaml": place.Replace(collectorConfig), "prometheus.yml": place.Replace(prometheusConfig), "rules.yaml": rules,
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			s.end()
			return nil, err
		}
	}
	for _, args := range [][]string{
		{collector, "--config", "otelcol.yaml"},
		{prometheus, "--config.file=prometheus.yml", "--web.listen-address=" + at.prometheus, "--enable-feature=exemplar-storage"},
	} {
		if err := s.start(args); err != nil {
			s.end()
			return nil, err
		}
	}
	time.Sleep(500 * time.Millisecond) // nothing depends on it: what is sent before they are ready is lost
	return s, nil
}

func (s *servers) start(args []string) error {
	log, err := os.Create(filepath.Join(s.dir, filepath.Base(args[0])+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = s.dir, log, log, procAttr()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.commands = append(s.commands, cmd)
	return nil
}

// end ends the processes and removes what they have left.
func (s *servers) end() {
	for _, cmd := range s.commands {
		_ = cmd.Process.Kill() // fails if it has ended
		_ = cmd.Wait()
	}
	_ = os.RemoveAll(s.dir)
}

// find returns the path of a program: the one that a variable names, else the newest one that a script in tools has built, else the
// one in $PATH.
func find(variable, name, pattern string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}
	if cache, err := os.UserCacheDir(); err == nil && pattern != "" {
		built, _ := filepath.Glob(filepath.Join(cache, "zerohop", pattern)) // fails on bad patterns only
		newest := ""
		var when time.Time
		for _, path := range built {
			if info, err := os.Stat(path); err == nil && info.ModTime().After(when) {
				newest, when = path, info.ModTime()
			}
		}
		if newest != "" {
			return newest, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("there is no %s: %w", name, err)
	}
	return path, nil
}
