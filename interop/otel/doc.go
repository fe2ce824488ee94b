// Package otel tests package telemetry together with other instrumentation of OpenTelemetry.
package otel
