// Package ports stands in for a diagnostic command of the consul CLI that the tests never run.
package ports

// TroubleshootDefaultPorts does nothing.
func TroubleshootDefaultPorts(host string) {}

// TroubleShootCustomPorts does nothing.
func TroubleShootCustomPorts(host string, ports string) {}
