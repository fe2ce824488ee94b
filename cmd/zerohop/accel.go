package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/zerohop/zerohop/ebpfaccel"
	"github.com/zerohop/zerohop/ebpfaccel/loader"
)

// accelerating are the arguments of the commands of accel.
type accelerating struct {
	command  string
	config   loader.Config
	json     bool
	now      bool
	selfTest bool
	anyGain  bool
	timeout  time.Duration
}

// The first is also for accel up, which tests in a cgroup of its own, and the other for accel bench alone.
const (
	selfTestCommand    = "self-test"
	benchServerCommand = "bench-server"
)

func parseAccelerating(args []string) (accelerating, error) {
	a := accelerating{selfTest: true}
	if len(args) == 0 {
		return a, errors.New("want accel up, status, down, doctor, self-test or bench")
	}
	a.command, args = args[0], args[1:]
	flags := flag.NewFlagSet("accel", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	pins := func() { flags.StringVar(&a.config.Pins, "pins", loader.DefaultPins, "") }
	cgroup := func() {
		flags.StringVar(&a.config.Cgroup, "cgroup", "", "")
		flags.BoolVar(&a.config.AllowRoot, "allow-root", false, "")
	}
	switch a.command {
	case "-h", "-help", "--help":
		return a, flag.ErrHelp
	case "up":
		pins()
		cgroup()
		flags.BoolVar(&a.selfTest, "self-test", true, "")
		flags.BoolVar(&a.anyGain, "allow-no-gain", false, "")
		flags.DurationVar(&a.timeout, "timeout", time.Minute, "")
	case "status":
		pins()
		flags.BoolVar(&a.json, "json", false, "")
	case "down":
		pins()
		flags.BoolVar(&a.now, "now", false, "")
		flags.DurationVar(&a.timeout, "timeout", 30*time.Second, "")
	case "doctor":
		pins()
		cgroup()
		flags.BoolVar(&a.json, "json", false, "")
	case "bench":
		flags.DurationVar(&a.timeout, "time", time.Minute, "")
		flags.BoolVar(&a.json, "json", false, "")
	case selfTestCommand:
		flags.BoolVar(&a.anyGain, "allow-no-gain", false, "")
	case benchServerCommand:
	default:
		return a, fmt.Errorf("unknown command accel %s, want up, status, down, doctor, self-test or bench", quote(a.command))
	}
	if err := flags.Parse(args); err != nil {
		return a, err
	}
	if flags.NArg() > 0 {
		return a, fmt.Errorf("unexpected argument %s", quote(flags.Arg(0)))
	}
	if a.command == "up" && a.config.Cgroup == "" {
		return a, errors.New("want --cgroup, the directory of a cgroup whose programs may opt in")
	}
	return a, nil
}

// accelCommand runs the privileged half of package ebpfaccel.
func accelCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a, err := parseAccelerating(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return exitOK
	} else if err != nil {
		fmt.Fprintf(stderr, "zerohop accel: %v; see zerohop help\n", err)
		return exitUsage
	}
	if a.timeout > 0 && a.command != "bench" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	if err := a.run(ctx, stdout); err != nil {
		fmt.Fprintf(stderr, "zerohop accel %s: %v\n", a.command, err)
		return exitNone
	}
	return exitOK
}

func (a *accelerating) run(ctx context.Context, stdout io.Writer) error {
	switch a.command {
	case "up":
		if a.selfTest {
			a.config.SelfTest = []string{"accel", selfTestCommand}
			if a.anyGain {
				a.config.SelfTest = append(a.config.SelfTest, "--allow-no-gain")
			}
		}
		s, err := loader.Up(ctx, a.config)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "ready for cgroup %s, pinned in %s\n", s.Cgroup, s.Pins)
		return err
	case "status":
		s, err := loader.Read(a.config.Pins)
		if err != nil {
			return err
		}
		if a.json {
			return writeIndented(stdout, s)
		}
		return writeStatus(stdout, s)
	case "down":
		return loader.Down(ctx, a.config.Pins, a.now)
	case "doctor":
		return a.doctor(stdout)
	case "bench":
		return accelBench(ctx, a.timeout, a.json, stdout)
	case benchServerCommand:
		return benchServer(ctx, os.Stdin, stdout)
	default:
		return a.test(ctx, stdout)
	}
}

// test tests the accelerator that is up for the cgroup of this process.
func (a *accelerating) test(ctx context.Context, stdout io.Writer) error {
	if err := loader.SelfTest(ctx); err != nil {
		return err
	}
	g, err := loader.MeasureGain(ctx)
	if err != nil {
		return err
	}
	if err := g.Check(); err != nil && !a.anyGain {
		return fmt.Errorf("%w; --allow-no-gain accepts that", err)
	}
	_, err = fmt.Fprintf(stdout, "bytes arrive as sent; a call of 1 KiB takes %v, over TCP %v\n", g.Accelerated, g.Plain)
	return err
}

func writeIndented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func writeStatus(w io.Writer, s loader.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	state := "up"
	if s.Draining {
		state = "draining"
	}
	fmt.Fprintf(t, "state\t%s\ncgroup\t%s\npins\t%s\nsockets now\t%d\n", state, s.Cgroup, s.Pins, s.Sockets)
	counters := reflect.ValueOf(s.Counters)
	for i := range counters.NumField() {
		name := strings.ReplaceAll(counters.Type().Field(i).Tag.Get("json"), "_", " ")
		fmt.Fprintf(t, "%s\t%d\n", name, counters.Field(i).Uint())
	}
	return t.Flush()
}

// doctor returns an error if anything is missing.
func (a *accelerating) doctor(stdout io.Writer) error {
	findings := loader.Doctor(a.config)
	own := loader.Finding{Subject: "this process", OK: true, Detail: "may opt in"}
	if err := ebpfaccel.Probe(); err != nil { // Not so before up, and for most cgroups: nothing is wrong then.
		own = loader.Finding{Subject: "this process", Unknown: true, Detail: strings.TrimPrefix(err.Error(), "ebpfaccel: ")}
	}
	findings = append(findings, own)
	if a.json {
		if err := writeIndented(stdout, findings); err != nil {
			return err
		}
	}
	bad := 0
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		mark := "ok"
		switch {
		case f.Unknown:
			mark = "note"
		case !f.OK:
			mark = "MISSING"
			bad++
		}
		if !a.json {
			fmt.Fprintf(t, "%s\t%s\t%s\n", mark, f.Subject, f.Detail)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d are missing", bad, len(findings))
	}
	return nil
}
