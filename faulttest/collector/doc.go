// Package collector holds tests only: what package telemetry reports is read back from a real OpenTelemetry Collector and a real
// Prometheus and held against what servers have counted themselves; and Collectors that are away, frozen, flooding or dripping must
// leave calls, memory and shutdown alone. The latter need the machine for themselves.
package collector
