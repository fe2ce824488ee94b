package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/zerohop/zerohop/discovery"
)

// settings are the arguments of the command endpoints.
type settings struct {
	service   string
	from      []string
	format    string
	once      bool
	timeout   time.Duration
	addresses discovery.AddressPolicy
}

// parseSettings returns the settings in args, flags before or after the service. The error names all that is missing.
func parseSettings(args []string) (settings, error) {
	s := settings{timeout: 5 * time.Second}
	flags := flag.NewFlagSet("endpoints", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("from", "", func(text string) error { s.from = append(s.from, text); return nil })
	flags.StringVar(&s.format, "o", "", "")
	flags.BoolVar(&s.once, "once", false, "")
	flags.DurationVar(&s.timeout, "timeout", s.timeout, "")
	flags.BoolVar(&s.addresses.AllowLoopback, "allow-loopback", false, "")
	flags.Func("allow", "", func(text string) error {
		prefix, err := netip.ParsePrefix(text)
		s.addresses.Allow = append(s.addresses.Allow, prefix)
		return err
	})
	services, err := operands(flags, args)
	if err != nil {
		return s, err
	}
	var errs []error
	if len(services) == 1 && services[0] != "" {
		s.service = services[0]
	} else {
		errs = append(errs, fmt.Errorf("want the name of one SERVICE, got %d", len(services)))
	}
	if len(s.from) == 0 {
		errs = append(errs, errors.New("--from SOURCE is missing"))
	}
	switch s.format {
	case "", "table", "lines", "json":
	default:
		errs = append(errs, fmt.Errorf("-o is %s, want table, lines or json", quote(s.format)))
	}
	if s.timeout <= 0 {
		errs = append(errs, fmt.Errorf("--timeout is %v, want more than 0", s.timeout))
	}
	if err := s.addresses.Validate(); err != nil {
		errs = append(errs, err)
	}
	return s, errors.Join(errs...)
}

// source names all sources.
func (s settings) source() string { return strings.Join(s.from, ", ") }

// start is what is known before anything happened.
func (s settings) start(now time.Time) report {
	return report{time: now, service: s.service, source: s.source(), event: discovery.Event{Lost: now}}
}

// open returns the resolver of all sources, and what to call when it is no longer used.
func (s settings) open() (discovery.Resolver, func(), error) {
	var levels discovery.Failover
	var dones []func()
	done := func() {
		for _, f := range dones {
			f()
		}
	}
	var errs []error
	for i, text := range s.from {
		r, f, err := openSource(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--from %d: %w", i+1, err))
			continue
		}
		levels, dones = append(levels, r), append(dones, f)
	}
	switch {
	case errs != nil:
		done()
		return nil, nil, errors.Join(errs...)
	case len(levels) == 1:
		return levels[0], done, nil
	}
	return levels, done, nil
}

// endpoints is the command.
func endpoints(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parseSettings(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return exitOK
	}
	var resolver discovery.Resolver
	if err == nil {
		var done func()
		if resolver, done, err = s.open(); err == nil {
			defer done()
		}
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintln(stderr, "zerohop:", clean(line))
		}
		return exitUsage
	}
	p := newPrinter(s, stdout)
	if s.once {
		return once(ctx, s, resolver, p, stderr)
	}
	err = watch(ctx, s, resolver, p)
	if t, ok := p.(*tablePrinter); ok && t.size != nil {
		fmt.Fprintln(stdout) // what comes after it begins a line
	}
	if err != nil {
		fmt.Fprintln(stderr, "zerohop:", clean(err.Error()))
		return exitNone
	}
	return exitOK
}

// printer shows what happens. Calls are sequential.
type printer interface {
	// print shows a report.
	print(r report) error
	// tick is called at the start and each second, for what shows the time that passes.
	tick(now time.Time) error
}

func newPrinter(s settings, stdout io.Writer) printer {
	file, ok := stdout.(*os.File)
	terminal := ok && term.IsTerminal(int(file.Fd()))
	format := s.format
	if format == "" {
		format = "lines"
		if terminal || s.once {
			format = "table"
		}
	}
	switch {
	case format == "json":
		return jsonPrinter{stdout}
	case format == "lines":
		return &linePrinter{w: stdout}
	case s.once || !terminal:
		return &tablePrinter{w: stdout, once: s.once}
	}
	p := &tablePrinter{w: stdout, last: s.start(time.Now())}
	p.size = func() (width, height int, err error) { return term.GetSize(int(file.Fd())) }
	return p
}

// follow runs a mesh's supervision of the service until ctx ends, and sends what happens. It closes the channel at the end.
func follow(ctx context.Context, s settings, resolver discovery.Resolver) <-chan report {
	reports := make(chan report)
	go func() { // ends with ctx: the receiver waits for the end of the channel
		defer close(reports)
		h := history{service: s.service, source: s.source()}
		opts := discovery.RunOptions{Addresses: s.addresses, Observe: func(e discovery.Event) {
			if e.Kind == discovery.EventEnded {
				return
			}
			// A reader who is slow makes the watch wait, rather than the program grow.
			select {
			case reports <- h.event(time.Now(), e):
			case <-ctx.Done():
			}
		}}
		_ = discovery.Run(ctx, resolver, s.service, opts, h.update) // its only error is that of ctx
	}()
	return reports
}

// watch prints reports until ctx ends or printing fails.
func watch(ctx context.Context, s settings, resolver discovery.Resolver, p printer) error {
	ctx, cancel := context.WithCancel(ctx)
	reports := follow(ctx, s, resolver)
	defer func() {
		cancel()
		for range reports {
		}
	}()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for err := p.tick(time.Now()); ; {
		if err != nil {
			return err
		}
		select {
		case r, ok := <-reports:
			if !ok {
				return nil
			}
			err = p.print(r)
		case now := <-ticker.C:
			err = p.tick(now)
		}
	}
}

// once prints the first answer and returns the exit code.
func once(ctx context.Context, s settings, resolver discovery.Resolver, p printer, stderr io.Writer) int {
	timed, cancel := context.WithTimeout(ctx, s.timeout)
	reports := follow(timed, s, resolver)
	defer func() {
		cancel()
		for range reports {
		}
	}()
	why := "" // there is no answer
	for r := range reports {
		switch r.kind {
		case discovery.EventPublished:
		case discovery.EventWatchFailed: // when it is tried again says nothing here
			why = clean(r.event.Err.Error())
		default:
			why = r.text()
		}
		switch {
		case r.kind == discovery.EventPublished:
			if why != "" {
				fmt.Fprintln(stderr, "zerohop:", why)
			}
			if err := p.print(r); err != nil {
				fmt.Fprintln(stderr, "zerohop:", clean(err.Error()))
				return exitNone
			}
			if len(r.set) == 0 {
				return exitNone
			}
			return exitOK
		case r.kind == discovery.EventAnswerRejected && len(s.from) == 1: // of several another one may still answer
			fmt.Fprintln(stderr, "zerohop:", why)
			return exitNone
		}
	}
	if ctx.Err() != nil { // Ctrl-C
		return exitTimeout
	}
	if why != "" {
		why = ": " + why
	}
	fmt.Fprintf(stderr, "zerohop: no answer within %v%s\n", s.timeout, why)
	return exitTimeout
}
