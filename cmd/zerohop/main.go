package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
)

// The codes that the program ends with.
const (
	exitOK      = 0
	exitNone    = 1 // no endpoints, or the output cannot be written
	exitUsage   = 2
	exitTimeout = 3 // the source did not answer in time
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the program until it is done or ctx ends, and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, help)
		return exitUsage
	}
	switch args[0] {
	case "endpoints":
		return endpoints(ctx, args[1:], stdout, stderr)
	case "version", "-version", "--version":
		fmt.Fprintln(stdout, version())
		return exitOK
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, help)
		return exitOK
	}
	fmt.Fprintf(stderr, "zerohop: unknown command %s; see zerohop help\n", quote(args[0]))
	return exitUsage
}

// version names the module, its version and revision, as far as the build knows them, and the version of Go.
func version() string {
	v, revision := "(unknown)", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = " " + s.Value[:min(12, len(s.Value))]
			case s.Key == "vcs.modified" && s.Value == "true":
				revision += " (modified)"
			}
		}
	}
	return fmt.Sprintf("zerohop %s%s %s %s/%s", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

const help = `zerohop shows what a mesh makes of its discovery.

  zerohop endpoints SERVICE --from SOURCE [flags]   what a source says, and each change
  zerohop version
  zerohop help

A SOURCE is one of these, in quotes because of & and ?. Several --from are failover levels, the first one preferred.

  consul://[HOST:PORT]     ?dc= tag= filter= failing=true stale=true tls=true
                           CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_CACERT ...
  dns://[SERVER,...]/DOMAIN
                           ?port=8080 or srv=_http._tcp; network=ip4|ip6|ip tcp=true
                           asks for SERVICE.DOMAIN, or for DOMAIN with {service} in it replaced. With
                           srv the underscored labels come first. No SERVER: those of /etc/resolv.conf
  etcd://HOST:PORT,.../PREFIX
                           ?layout=zerohop|kratos|kitex scheme=grpc|http tls=true user-file=PATH (name:password)
                           ETCDCTL_USER, ETCDCTL_PASSWORD, ETCDCTL_CACERT, ETCDCTL_CERT, ETCDCTL_KEY
  file:///PATH             YAML or JSON; file:PATH is relative
  kubernetes:              ?namespace= port= context= kubeconfig=PATH not-ready=true
                           in a pod its service account, else KUBECONFIG or ~/.kube/config
  static:HOST:PORT,...
  xds://HOST:PORT          ?cluster=NAME (with {service}) node=ID generator=grpc plaintext=true
  xds:                     ?cluster=NAME; GRPC_XDS_BOOTSTRAP or GRPC_XDS_BOOTSTRAP_CONFIG

Credentials are never part of a SOURCE.

  -o FORMAT           table (the default on a terminal), lines, or json: one document a change
  --once              print the first answer and exit
  --timeout DURATION  with --once: how long to wait for it (default 5s)
  --allow-loopback    use loopback addresses that a remote source names
  --allow PREFIX      use addresses in PREFIX (10.0.0.0/8) although they are refused; repeatable

Exit code: 0 with endpoints or after Ctrl-C, 1 without endpoints or if the service is unknown, 2 for wrong usage,
3 if no source answered in time.
`
