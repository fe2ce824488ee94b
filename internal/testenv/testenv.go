// Package testenv decides what happens to tests whose environment lacks something: they skip on the machine of a
// developer and fail where ZEROHOP_REQUIRE says that it has to be there.
package testenv

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Need ends a test that cannot run because what ("consul", "ebpf" ...) is missing. It skips it with the reason, or
// fails it if the environment variable ZEROHOP_REQUIRE, a list separated by commas, contains what.
func Need(t testing.TB, what, reason string) {
	t.Helper()
	if Required(what) {
		t.Fatalf("ZEROHOP_REQUIRE contains %s: %s", what, reason)
	}
	t.Skipf("needs %s: %s", what, reason)
}

// Required reports whether ZEROHOP_REQUIRE contains what.
func Required(what string) bool {
	list := strings.Split(os.Getenv("ZEROHOP_REQUIRE"), ",")
	return slices.ContainsFunc(list, func(s string) bool { return strings.TrimSpace(s) == what })
}
