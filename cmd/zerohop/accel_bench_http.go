package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	mesh "github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/httpmesh"
)

// benchHandler answers with as many bytes as it is asked for, or says what its process has used of the processors.
func benchHandler(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/cpu" {
		fmt.Fprint(w, int64(cpuTime()))
		return
	}
	size, err := strconv.Atoi(r.URL.Query().Get("size"))
	if err != nil || size < 0 || size > 1<<20 {
		http.Error(w, "want a size", http.StatusBadRequest)
		return
	}
	w.Write(make([]byte, size))
}

// benchServer serves HTTP over all paths, in a process of its own as services are. It prints where, in the order of benchPaths, and
// ends with its standard input.
func benchServer(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "zerohop-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var addrs []any
	for _, p := range benchPaths {
		if p.network == "" {
			continue
		}
		l, err := p.listen(ctx, p.network, p.address(dir))
		if err != nil {
			return err
		}
		addrs = append(addrs, l.Addr())
		s := &http.Server{Handler: http.HandlerFunc(benchHandler), ReadHeaderTimeout: time.Minute}
		defer s.Close()
		go s.Serve(l) // until Close
	}
	if _, err := fmt.Fprintln(stdout, addrs...); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// startBenchServer starts it and sets the addresses of the paths.
func startBenchServer(ctx context.Context, paths []path) (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "accel", benchServerCommand)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		stdin.Close()
		cmd.Wait()
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	addrs := strings.Fields(line)
	for i := range paths {
		if paths[i].network == "" || err != nil {
			continue
		}
		if len(addrs) == 0 {
			err = errors.New("too few addresses")
			continue
		}
		paths[i].server, addrs = addrs[0], addrs[1:]
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("the server of the benchmark says %q: %w", line, err)
	}
	return stop, nil
}

func benchHTTP(ctx context.Context, p path, size int, d time.Duration) (measure, error) {
	if p.network == "" {
		return benchHandlerInProcess(ctx, size, d)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return p.dial(ctx, p.network, p.server)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	before, err := serverCPU(ctx, client)
	if err != nil {
		return measure{}, err
	}
	m, calls, err := benchGet(ctx, client, size, d)
	if err != nil {
		return measure{}, err
	}
	after, err := serverCPU(ctx, client)
	m.cpu += (after - before) / time.Duration(calls)
	return m, err
}

// benchHandlerInProcess makes calls by a mesh that has the handler in this process.
func benchHandlerInProcess(ctx context.Context, size int, d time.Duration) (measure, error) {
	const addr = "bench.invalid:1"
	m, err := mesh.New(mesh.Config{Resolver: discovery.Static{"bench": {{Addr: addr}}}})
	if err != nil {
		return measure{}, err
	}
	defer m.Close()
	transport := httpmesh.NewTransport(m, nil)
	transport.Handlers = map[string]http.Handler{addr: http.HandlerFunc(benchHandler)}
	defer transport.CloseIdleConnections()
	taken, _, err := benchGet(ctx, &http.Client{Transport: transport}, size, d)
	return taken, err
}

// benchGet makes calls, and says how many.
func benchGet(ctx context.Context, client *http.Client, size int, d time.Duration) (m measure, calls int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://bench/?size=%d", size), nil)
	if err != nil {
		return measure{}, 0, err
	}
	m, err = timed(d, func() error {
		calls++
		resp, err := client.Do(request)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	})
	return m, calls, err
}

// serverCPU asks the other process what it has used of the processors.
func serverCPU(ctx context.Context, client *http.Client) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://bench/cpu", nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 32))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(body), 10, 64)
	return time.Duration(n), err
}
