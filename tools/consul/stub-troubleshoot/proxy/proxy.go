// Package troubleshoot stands in for a diagnostic command of the consul CLI that the tests never run.
package troubleshoot

import (
	"errors"
	"net"
)

var errStub = errors.New("consul troubleshoot is not built into this test server")

// Message is one line of a diagnosis.
type Message struct {
	Success         bool
	Message         string
	PossibleActions []string
}

// Messages is a diagnosis.
type Messages []Message

// Success reports false: nothing was diagnosed.
func (Messages) Success() bool { return false }

// UpstreamIP is an upstream of a proxy.
type UpstreamIP struct {
	IPs          []string
	IsVirtual    bool
	ClusterNames map[string]struct{}
}

// Troubleshoot diagnoses nothing.
type Troubleshoot struct{}

// NewTroubleshoot returns an error.
func NewTroubleshoot(addr *net.IPAddr, port string) (*Troubleshoot, error) { return nil, errStub }

// RunAllTests returns an error.
func (*Troubleshoot) RunAllTests(envoyID, ip string) (Messages, error) { return nil, errStub }

// GetUpstreams returns an error.
func (*Troubleshoot) GetUpstreams() ([]string, []UpstreamIP, error) { return nil, nil, errStub }
