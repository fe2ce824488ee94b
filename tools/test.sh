#!/usr/bin/env bash
# test.sh runs all tests. It installs and builds the servers that they need, once; see CONTRIBUTING.md.
#
# There are three parts:
#
#  - What only computes (simulations, models, what is tried at random or in great number) begins first, in the background,
#    and takes what time the others leave. What it says comes after theirs. A simulation happens in one goroutine, where
#    the race detector finds little and takes ten times as long: under it run only the short ones, the rest without it.
#  - Beside it run most packages, two at a time: they wait for servers and timeouts more than they compute.
#  - What holds real processes to bounds on latency and losses runs last and alone, most of it without the race detector.
#    Tests of few calls run four at a time, for which two cores are enough.
#
# All parts always run, so that one failure does not hide another.
#
# GO is the go command, SEEDS how many random scenarios of package sim are tried (10000).
set -uo pipefail
cd "$(dirname "$0")/.." || exit
go=${GO:-go} seeds=${SEEDS:-10000}

tools/servers.sh
build() { # sets the variable $1 to the program that the script of tools/$2 builds, unless it names one
	[ -n "${!1:-}" ] || printf -v "$1" %s "$("tools/$2/build.sh")"
	[ -n "${!1}" ] || echo "no $3 could be built (see above): the tests that need one skip" >&2
	export "${1?}"
}
build ZEROHOP_CONSUL consul 'Consul server'
build ZEROHOP_KUBE_APISERVER kubernetes 'Kubernetes API server'
build ZEROHOP_OTELCOL otelcol 'OpenTelemetry Collector'

computing='./loadbalance ./routing ./vet ./telemetry/incident ./config/gatewayapi ./config/istio'
timed='./faulttest ./faulttest/collector ./faulttest/outage ./examples/quickstart'
packages=$("$go" list ./...) || exit
others=$(grep -vxF "$("$go" list ./resilience $computing ./examples/simulate $timed ./sim)" <<<"$packages")

rc=0 nice='' background=''
t() { # runs tests; the title comes first
	echo "==> go test, $1"
	shift
	$nice "$go" test "$@" || rc=1
}

compute() {
	nice='nice -n 19'
	t 'models' -race -shuffle=on -timeout=40m ./resilience
	t 'what computes and is short' -race -short -shuffle=on -p 1 -timeout=40m $computing ./sim
	t 'what the race detector would slow down' -p 1 -timeout=40m $computing ./examples/simulate
	t "$seeds simulations and all mutants" -timeout=40m ./sim -seeds="$seeds" -mutants
	return $rc
}

log=$(mktemp) || exit
trap 'rm -f "$log"; [ -z "$background" ] || kill -- -$background' EXIT
trap 'exit 130' INT TERM
set -m # gives the background a process group, which ends with the script
compute >"$log" 2>&1 </dev/null &
background=$!
set +m

t 'what waits' -race -shuffle=on -p 2 -timeout=15m $others
t outages -count=1 -timeout=10m ./faulttest/outage
cd interop || exit
t interop -race -shuffle=on -p 2 -timeout=10m $("$go" list ./... | grep -v '/console$')
cd ../bench || exit
t bench -timeout=10m ./...
cd ..

wait $background || rc=1
background=
cat "$log"

t 'faults' -count=1 -parallel=4 -timeout=20m ./faulttest
t 'the collector' -count=1 -timeout=5m ./faulttest/collector
t 'the quickstart' -race -timeout=5m ./examples/quickstart
cd interop || exit
t 'the console in a browser' -timeout=5m ./console
exit $rc
