package main

import "flag"

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
