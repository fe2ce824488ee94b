package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

// operands parses the arguments of a command, whose flags may come after other words and between them, and returns those words.
func operands(flags *flag.FlagSet, args []string) (list []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if args = flags.Args(); len(args) == 0 {
			return list, nil
		}
		list, args = append(list, args[0]), args[1:]
	}
}

// misused says why arguments cannot be read, or helps who asks for that by them, and returns the exit code.
func misused(err error, stdout, stderr io.Writer) int {
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return exitOK
	}
	complain(stderr, err)
	return exitUsage
}
