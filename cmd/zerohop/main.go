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
	case "schema":
		return printSchema(args[1:], stdout, stderr)
	case "import":
		return importSpec(args[1:], stdout, stderr)
	case "diff":
		return diffCommand(args[1:], stdout, stderr)
	case "route":
		return routeCommand(args[1:], stdout, stderr)
	case "vet":
		return vetCommand(args[1:], stdout, stderr)
	case "incident":
		return incidentCommand(args[1:], stdout, stderr)
	case "accel":
		return accelCommand(ctx, args[1:], stdout, stderr)
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

const help = `zerohop shows what a mesh makes of its discovery, and judges its configuration.

  zerohop endpoints SERVICE --from SOURCE [flags]   what a source says, and each change
  zerohop schema                                    the JSON Schema of a Spec, for editors
  zerohop import --from FORMAT FILE... [flags]      a Spec of what gateway-api, istio or grpc have
  zerohop vet [--graph GRAPH] SPEC... [flags]       what is wrong with specs, for CI
  zerohop route --spec SPEC [METHOD] URL [flags]    where a call goes, and why
  zerohop diff OLD NEW [flags]                      what another spec changes for calls
  zerohop incident show|merge FILE... [flags]       what was first, and a timeline of several processes
  zerohop accel up|status|down|doctor|self-test|bench [flags] calls within this host, past its TCP stack
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

import writes the Spec to standard output, and what is lost to standard error; docs/import.md lists what is carried over.

  -o FILE             write the Spec to a file
  --json              tell what is lost in JSON
  --strict            exit with 2 if anything is lost
  --namespace NAME    of the process that the Spec is for (default "default")
  --label NAME=VALUE  of that process; repeatable
  --gateway NAME=HOST by which host calls go through a gateway (*: all others); repeatable
  --target SERVICE    what a service config of gRPC is for (default: the name of the file)

Exit code: 0 if the Spec was written, 1 if not, 2 with --strict if anything is lost.

vet takes files of YAML or JSON; docs/vet.md lists its checks and says what a GRAPH is.

  --json, --sarif     write one document of JSON, or of SARIF 2.1.0
  --fail-on SEVERITY  note, warning, error (the default) or never: what makes the exit code 1
  --severity SEVERITY leave out findings below it
  --disable ID,...    leave out checks; repeatable
  --from FORMAT       of the specs: zerohop (the default) gateway-api, istio or grpc
  --env               ${NAME} in specs stands for a variable of the environment

Exit code: 0, 1 with findings as bad as --fail-on, 2 for wrong usage and for files that cannot be read or are not valid.

route takes -H 'NAME: VALUE', --lane NAME, --json, --from and --env. It says of each rule whether it takes the call, or which
condition the call does not meet. Exit code: 0, or 2 for wrong usage and files that are not valid.

diff tells which fields of two specs differ, what that changes for calls with all defaults and where it comes from, which calls go
elsewhere, and what forgets what it has learned. It takes --json, --from and --env.

Exit code: 0 if nothing differs, 1 if something does, 2 for wrong usage and files that are not valid.

incident reads dumps of package telemetry/incident, of one process or of several; docs/incidents.md has an example. show names the
most likely first cause of each burst of failures, with calls per second, changes of state and explanations; merge lists all.

  -o FILE             write to a file
  --json              write lines of JSON: processes, findings, then all that happened
  --all               with show and merge: each second, and no end to lists
  --service SERVICE   leave out what is about others
  --from, --to TIME   leave out what is before or after, but not from the search for causes: 15:04:05 or 2026-05-01T15:04:05Z, in UTC
  --offset NAME=DURATION
                      add this to times of an instance or a file, if its clock was wrong; repeatable. Else it is estimated

Exit code: 0, 1 if the output cannot be written, 2 for wrong usage and for files that cannot be read or are no dumps.

accel is for administrators of Linux hosts; docs/accelerator.md says what it does, and what it takes away. up loads the accelerator
for the programs of a cgroup that opt in, tests it first, and takes the place of one that is up. It needs CAP_BPF, CAP_NET_ADMIN and
CAP_PERFMON. down waits for open connections. doctor tells what is missing. self-test and bench are run in the cgroup, and need no
privileges: self-test fails unless all bytes arrive as sent, and calls are faster than over TCP; bench compares with TCP and others.

  --cgroup DIR        of cgroup v2, for up and doctor; --allow-root if it is the root
  --pins DIR          where the accelerator is kept (default /sys/fs/bpf/zerohop)
  --self-test=false   with up: do not test it first
  --allow-no-gain     with up and self-test: not to be faster than TCP is no failure
  --timeout DURATION  how long up (default 1m) and down (default 30s) may take
  --now               with down: do not wait; open connections go on
  --time DURATION     how long bench takes (default 1m): the more, the less is left to chance
  --json              with status, doctor and bench

Exit code: 0, 1 if it did not succeed or anything is missing, 2 for wrong usage.
`
