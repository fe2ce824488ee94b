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

// serveBench serves HTTP over all paths. It returns where, in the order of benchPaths.
func serveBench(ctx context.Context) (addrs []string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "zerohop-bench-*")
	if err != nil {
		return nil, nil, err
	}
	var servers []*http.Server
	stop = func() {
		for _, s := range servers {
			s.Close()
		}
		os.RemoveAll(dir)
	}
	for _, p := range benchPaths {
		if p.network == "" {
			continue
		}
		l, err := p.listen(ctx, p.network, p.address(dir))
		if err != nil {
			stop()
			return nil, nil, err
		}
		addrs = append(addrs, l.Addr().String())
		s := &http.Server{Handler: http.HandlerFunc(benchHandler), ReadHeaderTimeout: time.Minute}
		servers = append(servers, s)
		go s.Serve(l) // until stop
	}
	return addrs, stop, nil
}

// benchServer is a process that serves, as services are. It prints where and ends with its standard input.
func benchServer(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	addrs, stop, err := serveBench(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if _, err := fmt.Fprintln(stdout, strings.Join(addrs, " ")); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err
}

// startBenchServers starts one in this process and one in another, and sets the addresses of the paths.
func startBenchServers(ctx context.Context, paths []path) (stop func(), err error) {
	near, stopNear, err := serveBench(ctx)
	if err != nil {
		return nil, err
	}
	far, stopFar, err := startBenchServer(ctx)
	if err != nil {
		stopNear()
		return nil, err
	}
	stop = func() {
		stopNear()
		stopFar()
	}
	for i := range paths {
		if paths[i].network == "" {
			continue
		}
		if len(near) == 0 || len(far) == 0 {
			stop()
			return nil, errors.New("the server of the benchmark serves at too few addresses")
		}
		paths[i].near, near = near[0], near[1:]
		paths[i].far, far = far[0], far[1:]
	}
	return stop, nil
}

// startBenchServer starts a benchServer.
func startBenchServer(ctx context.Context) (addrs []string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self, "accel", benchServerCommand)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		stdin.Close()
		cmd.Wait()
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("the server of the benchmark says %q: %w", line, err)
	}
	return strings.Fields(line), stop, nil
}

// benchNear calls a server in this process.
func benchNear(ctx context.Context, p path, size int, d time.Duration) (measure, error) {
	if p.network == "" {
		return benchHandlerInProcess(ctx, size, d)
	}
	client, stop := p.client(p.near)
	defer stop()
	m, _, err := benchGet(ctx, client, size, d)
	return m, err
}

// benchFar calls a server in another process.
func benchFar(ctx context.Context, p path, size int, d time.Duration) (measure, error) {
	client, stop := p.client(p.far)
	defer stop()
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

// client returns one that calls an address whatever it is asked for.
func (p path) client(addr string) (c *http.Client, stop func()) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return p.dial(ctx, p.network, addr)
	}}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
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
