//go:build !unix

package outage

import "testing"

func TestOutages(t *testing.T) { t.Skip("needs the signals of Unix to stop and kill servers") }
