#!/bin/sh
# build.sh builds the Kubernetes API server pinned in go.mod and prints the path of the binary. The binary is
# kept in the user's cache folder under a name that changes with go.sum and with the Go release, so the second
# run costs nothing.
set -eu

cd "$(dirname "$0")"
key=$( { cat go.mod go.sum; go env GOVERSION GOOS GOARCH; } | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/zerohop/kube-apiserver-$key
bin=$dir/kube-apiserver

if [ ! -x "$bin" ]; then
	echo "kubernetes: building the test server into $dir; the first build takes about 10 minutes" >&2
	mkdir -p "$dir"
	# Without a version the server takes itself for v0.0.0 and switches features off.
	release=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
	minor=${release#v1.}
	base=k8s.io/component-base/version
	flags="-s -w -X $base.gitVersion=$release -X $base.gitMajor=1 -X $base.gitMinor=${minor%%.*}"
	# Built under a name of its own and moved: a build that was cut short never looks finished.
	tmp=$bin.$$
	trap 'rm -f "$tmp"' EXIT
	trap 'exit 1' HUP INT TERM
	CGO_ENABLED=0 nice -n 10 go build -trimpath -ldflags="$flags" -o "$tmp" k8s.io/kubernetes/cmd/kube-apiserver >&2
	mv -f "$tmp" "$bin"
	echo "kubernetes: built $bin" >&2
fi
echo "$bin"
