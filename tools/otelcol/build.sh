#!/bin/sh
# build.sh builds the OpenTelemetry Collector pinned in go.mod and prints the path of the binary. The binary is kept in
# the user's cache folder under a name that changes with go.sum, main.go and with the Go release, so the second run
# costs nothing.
set -eu

cd "$(dirname "$0")"
key=$( { cat go.mod go.sum main.go; go env GOVERSION GOOS GOARCH; } | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/zerohop/otelcol-$key
bin=$dir/otelcol

if [ ! -x "$bin" ]; then
	echo "otelcol: building the Collector into $dir; the first build takes a few minutes" >&2
	mkdir -p "$dir"
	# Built under a name of its own and moved: a build that was cut short never looks finished.
	tmp=$bin.$$
	trap 'rm -f "$tmp"' EXIT
	trap 'exit 1' HUP INT TERM
	CGO_ENABLED=0 nice -n 10 go build -trimpath -ldflags='-s -w' -o "$tmp" . >&2
	mv -f "$tmp" "$bin"
	echo "otelcol: built $bin" >&2
fi
echo "$bin"
