// Package dnstest runs the DNS server Knot for tests, with one zone that they change over the wire (RFC 2136).
package dnstest
