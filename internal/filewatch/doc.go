// Package filewatch tells when a file changes and when it can be read, for sources that are files.
package filewatch
