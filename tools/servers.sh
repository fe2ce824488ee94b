#!/bin/sh
# servers.sh installs the servers that tests run, where they are missing: etcd, knot (DNS) and Prometheus, from the packages of Debian.
# That needs root; without it, or where apt-get is missing or fails, it says what is missing and ends well: the tests
# that need it skip. Tests start the servers themselves, so their services are neither started nor enabled.
set -u
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

packages='' services=''
command -v etcd >/dev/null || packages="$packages etcd-server" services="$services etcd"
command -v knotd >/dev/null || packages="$packages knot" services="$services knot"
command -v prometheus >/dev/null || packages="$packages prometheus" services="$services prometheus"
command -v chromium >/dev/null || packages="$packages chromium fonts-dejavu-core"
[ -n "$packages" ] || exit 0

missing() {
	echo "servers: not installed, $1:$packages; the tests that need them skip" >&2
	exit 0
}
command -v apt-get >/dev/null || missing 'for want of apt-get'
[ "$(id -u)" = 0 ] || missing 'for want of root'

# What policy-rc.d answers decides whether packages may start their services; 101 is no. A policy that is there comes back.
policy=/usr/sbin/policy-rc.d
kept=$(mktemp -d) || missing 'for want of a place for temporary files'
if [ -e "$policy" ] && ! cp -p "$policy" "$kept/policy"; then
	rm -rf "$kept"
	missing "$policy cannot be set aside"
fi
restore() {
	rm -f "$policy"
	[ ! -e "$kept/policy" ] || mv "$kept/policy" "$policy"
	rm -rf "$kept"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
rm -f "$policy"
printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"

echo "servers: installing$packages" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >"$kept/log" 2>&1
# shellcheck disable=SC2086 # one word a package
if ! apt-get install -qq --no-install-recommends $packages >>"$kept/log" 2>&1 </dev/null; then
	tail -n 5 "$kept/log" >&2
	missing 'apt-get failed'
fi
for service in $services; do
	! command -v systemctl >/dev/null || systemctl --quiet disable "$service" >/dev/null 2>&1
	! command -v update-rc.d >/dev/null || update-rc.d "$service" disable >/dev/null 2>&1
done
exit 0
