// Package console holds tests of the page of telemetry/console in a browser: Chromium, where it is installed.
package console
