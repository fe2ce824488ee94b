package main

import (
	"fmt"
	"io"

	"github.com/zerohop/zerohop/config"
)

// printSchema prints the JSON Schema of a Spec, for editors.
func printSchema(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		fmt.Fprintf(stderr, "zerohop schema: takes no arguments, got %s\n", quote(args[0]))
		return exitUsage
	}
	if _, err := stdout.Write(config.Schema()); err != nil {
		fmt.Fprintln(stderr, "zerohop schema:", err)
		return exitNone
	}
	return exitOK
}
