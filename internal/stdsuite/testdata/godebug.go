// Package godebug stands for internal/godebug, which only the standard library can import.
package godebug

import (
	"os"
	"strings"
)

// Setting is a setting of the environment variable GODEBUG.
type Setting struct{ name string }

// New returns the setting of that name.
func New(name string) *Setting { return &Setting{name} }

// Name returns the name of the setting.
func (s *Setting) Name() string { return s.name }

// Value returns the value of the setting, empty if it is not set.
func (s *Setting) Value() string {
	for kv := range strings.SplitSeq(os.Getenv("GODEBUG"), ",") {
		if k, v, _ := strings.Cut(kv, "="); k == s.name {
			return v
		}
	}
	return ""
}

// IncNonDefault would count uses of the setting.
func (s *Setting) IncNonDefault() {}
