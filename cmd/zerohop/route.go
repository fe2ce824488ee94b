package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zerohop/zerohop/routing"
	"github.com/zerohop/zerohop/vet"
)

// routed is what route tells of a call.
type routed struct {
	Call string `json:"call"`
	// To is where such calls go, the largest part first.
	To []vet.Part `json:"to"`
	// Rules are those that could be for the call, in their order.
	Rules []vet.Reason `json:"rules"`
}

// routeCommand is the command route.
func routeCommand(args []string, stdout, stderr io.Writer) int {
	var f format
	name, lane, asJSON := "", "", false
	header := http.Header{}
	flags := flag.NewFlagSet("route", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&name, "spec", "", "")
	flags.StringVar(&f.from, "from", "", "")
	flags.BoolVar(&f.expand, "env", false, "")
	flags.BoolVar(&asJSON, "json", false, "")
	flags.StringVar(&lane, "lane", "", "")
	flags.Func("H", "", func(text string) error {
		k, v, ok := strings.Cut(text, ":")
		if !ok {
			return errors.New("want NAME: VALUE")
		}
		header.Add(strings.TrimSpace(k), strings.TrimSpace(v))
		return nil
	})
	words, err := operands(flags, args)
	if err != nil {
		return misused(err, stdout, stderr)
	}
	err = f.validate()
	if name == "" {
		err = errors.Join(err, errors.New("--spec FILE is missing"))
	}
	req := &routing.Request{Method: http.MethodGet, Header: header, Lane: lane, Now: time.Now()}
	switch len(words) {
	case 2:
		req.Method, words = words[0], words[1:]
		fallthrough
	case 1:
		u, parseErr := url.Parse(words[0])
		if parseErr == nil && u.Host == "" {
			parseErr = fmt.Errorf("%s is not the URL of a service, such as http://orders/v2", quote(words[0]))
		}
		if parseErr != nil {
			err = errors.Join(err, parseErr)
			break
		}
		req.Service, req.Path, req.Query = strings.ToLower(u.Host), u.EscapedPath(), u.RawQuery
	default:
		err = errors.Join(err, fmt.Errorf("want [METHOD] URL, got %d words", len(words)))
	}
	var d vet.Document
	if err == nil {
		d, err = f.read(name, stderr)
	}
	out := routed{}
	if err == nil {
		out.Call = strings.TrimSpace(req.Method + " " + words[0])
		out.To, out.Rules, err = vet.Explain(d.Spec, req)
	}
	if err == nil {
		err = out.write(stdout, asJSON)
	}
	if err != nil {
		complain(stderr, err)
		return exitUsage
	}
	return exitOK
}

func (r *routed) write(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	var b strings.Builder
	fmt.Fprintln(&b, clean(r.Call))
	for _, p := range r.To {
		fmt.Fprintf(&b, "  %.4g %% to %s\n", p.Percent, clean(p.To))
	}
	for _, reason := range r.Rules {
		fmt.Fprintf(&b, "%s: %s\n", clean(reason.Rule), clean(reason.Why))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
