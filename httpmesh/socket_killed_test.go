//go:build linux || darwin

package httpmesh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/discovery/discoverytest"
	"github.com/zerohop/zerohop/samehost"
)

// process is a server in a process of its own, which listens on TCP and on a socket.
type process struct {
	cmd      *exec.Cmd
	stdin    io.Closer
	endpoint discovery.Endpoint
}

// serverEnv has the directory and the address for a server that this binary is to be.
const serverEnv = "HTTPMESH_SOCKET_SERVER"

// beServer serves until its standard input ends, if this process is to do so.
func beServer(t *testing.T) bool {
	dir, on, ok := strings.Cut(os.Getenv(serverEnv), " ")
	if !ok {
		return false
	}
	tcp, err := net.Listen("tcp", on)
	if err != nil {
		t.Fatal(err)
	}
	l, err := samehost.Listen(tcp, samehost.ListenConfig{Directory: dir, Name: "s"})
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		io.Copy(w, r.Body)
	})}
	go s.Serve(l)
	fmt.Println("serves", l.Addr(), l.Meta()[samehost.KeyPath], l.Meta()[samehost.KeyHost], l.Meta()[samehost.KeyFile])
	io.Copy(io.Discard, os.Stdin)
	s.Close()
	return true
}

// run starts a server.
func run(t *testing.T, dir, addr string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")}
	p.cmd.Env = append(os.Environ(), serverEnv+"="+dir+" "+addr)
	p.cmd.Stderr = os.Stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var path, host, file string
		if n, _ := fmt.Sscanf(lines.Text(), "serves %s %s %s %s", &p.endpoint.Addr, &path, &host, &file); n == 4 {
			p.endpoint.Meta = map[string]string{samehost.KeyPath: path, samehost.KeyHost: host, samehost.KeyFile: file}
			return p
		}
	}
	t.Fatalf("the server does not say where it is: %v", lines.Err())
	return nil
}

// kill ends the server without a chance to clean up.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.stdin.Close()
	p.cmd.Wait()
}

// loopback returns an address for a server that is to come back to it, which nobody takes in between.
func loopback() string {
	if runtime.GOOS == "linux" {
		return fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(255), 1+rand.IntN(254))
	}
	return "127.0.0.1:0"
}

// A server is killed while calls go over its socket, and comes back: what may be repeated is not lost, what may not fails as over
// TCP, and the socket is used again once the registry tells of the new one.
func TestKilledServerComesBackBesideItsSocket(t *testing.T) {
	if beServer(t) {
		return
	}
	dir := directory(t)
	first := run(t, dir, loopback())
	other := serve(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	var source discoverytest.Memory
	list := func(p *process) {
		source.Set("orders", p.endpoint, discovery.Endpoint{Addr: addr(other)})
		source.Set("alone", p.endpoint)
	}
	list(first)
	var over networks
	var replaced, killed atomic.Int64
	hooks := over.hooks()
	hooks.Connection = func(_ string, ev zerohop.ConnectionEvent) {
		switch ev.Fallback {
		case samehost.ReasonReplaced:
			replaced.Add(1)
		case samehost.ReasonRefused:
			killed.Add(1)
		}
	}
	m := open(t, zerohop.Config{
		Resolver: &source, Sockets: samehost.Policy{Directories: []string{dir}}, Hooks: hooks,
		Spec: zerohop.Spec{Defaults: zerohop.Policy{
			Budget: zerohop.Budget{Mode: zerohop.Off}, Backup: zerohop.Backup{Mode: zerohop.Off}, Outlier: zerohop.Outlier{Mode: zerohop.Off},
			Connect: zerohop.Connect{Timeout: time.Minute},
		}},
	})
	tr := client(t, m)
	say := func(ctx context.Context, method, url, text string) error {
		resp, err := tr.RoundTrip(request(ctx, t, method, url, strings.NewReader(text)))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != text {
			return fmt.Errorf("answer %q, %w", got, err)
		}
		return nil
	}
	var calls sync.WaitGroup
	var done atomic.Int64
	stop := make(chan struct{})
	for i := range 4 {
		calls.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := say(t.Context(), http.MethodPut, "http://orders/", fmt.Sprint(i, " ", n)); err != nil {
					t.Errorf("call %d %d: %v", i, n, err)
				}
				done.Add(1)
				if n%5 == 0 {
					tr.CloseIdleConnections()
				}
			}
		})
	}
	await := func(n *atomic.Int64, more int64) {
		for before := n.Load(); n.Load() < before+more; {
			time.Sleep(time.Millisecond) // for the others
		}
	}
	defer calls.Wait()
	defer close(stop)
	await(&over[zerohop.NetworkUnix], 50)

	// Calls that may not be repeated, and whose answers have begun, end with it.
	var answers []*http.Response
	for range 3 {
		resp, err := tr.RoundTrip(request(t.Context(), t, http.MethodPost, "http://alone/hang", strings.NewReader("x")))
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, resp)
	}
	first.kill()
	for _, resp := range answers {
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("an answer of a server that was killed is complete")
		}
		resp.Body.Close()
	}
	await(&done, 50)
	if err := say(t.Context(), http.MethodPost, "http://alone/", "x"); !zerohop.DialFailed(err) {
		t.Errorf("call of a service that is away = %v, want that there is no connection", err)
	}
	if killed.Load() == 0 {
		t.Error("no connection is said to have gone to the address because the socket refused it")
	}

	// It takes its place again, in spite of the file it has left behind.
	second := run(t, dir, first.endpoint.Addr)
	if second.endpoint.Addr != first.endpoint.Addr || second.endpoint.Meta[samehost.KeyPath] != first.endpoint.Meta[samehost.KeyPath] {
		t.Fatalf("the server is back at %v, was at %v", second.endpoint, first.endpoint)
	}
	for replaced.Load() == 0 { // the registry still tells of the old socket, which rests for a while
		if err := say(t.Context(), http.MethodPost, "http://alone/", "x"); err != nil {
			t.Errorf("call of a service that is back: %v", err)
		}
		tr.CloseIdleConnections()
		time.Sleep(time.Millisecond)
	}
	list(second)
	await(&over[zerohop.NetworkUnix], 50)
}

// To find that a socket is of no use costs a call nothing that it has: its only attempt goes to the address.
func TestFallbackIsWithinTheSameAttempt(t *testing.T) {
	dir := directory(t)
	for name, spoil := range map[string]func(t *testing.T, ep *discovery.Endpoint){
		"gone": func(t *testing.T, ep *discovery.Endpoint) {
			if err := os.Remove(ep.Meta[samehost.KeyPath]); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(_ *testing.T, ep *discovery.Endpoint) { ep.Meta[samehost.KeyFile] = "1-2-3" },
		"refused": func(t *testing.T, ep *discovery.Endpoint) {
			on, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l, err := samehost.Listen(on, samehost.ListenConfig{Directory: dir})
			if err != nil {
				t.Fatal(err)
			}
			ep.Meta = l.Meta()
			path := ep.Meta[samehost.KeyPath]
			if err := errors.Join(os.Rename(path, path+"2"), l.Close(), os.Rename(path+"2", path)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := beside(t, dir, http.HandlerFunc(hello), (*httptest.Server).Start)
			ep := s.endpoint()
			spoil(t, &ep)
			var events []zerohop.ConnectionEvent
			var attempts int
			m := open(t, zerohop.Config{
				Resolver: discovery.Static{"orders": {ep}}, Sockets: samehost.Policy{Directories: []string{dir}},
				Hooks: zerohop.Hooks{
					CallDone:   func(_ context.Context, _ zerohop.CallInfo, r zerohop.CallResult) { attempts = r.Attempts },
					Connection: func(_ string, ev zerohop.ConnectionEvent) { events = append(events, ev) },
				},
				Spec: zerohop.Spec{Defaults: zerohop.Policy{Backup: zerohop.Backup{Mode: zerohop.Off}}},
			})
			tr := client(t, m)
			if got := ask(t, tr, "http://orders/"); got != "hello" || attempts != 1 {
				t.Errorf("answer %q after %d attempts, want one", got, attempts)
			}
			want := zerohop.ConnectionEvent{Addr: ep.Addr, Network: zerohop.NetworkTCP, Fallback: samehost.Reason(name)}
			if len(events) != 1 || events[0] != want {
				t.Errorf("connections %+v, want %+v", events, want)
			}
		})
	}
}
