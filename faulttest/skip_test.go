//go:build !unix

package faulttest

import "testing"

func TestFaults(t *testing.T) { t.Skip("needs the signals of Unix to stop and kill backends") }
