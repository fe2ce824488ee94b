// Package config reads a zerohop.Spec from documents of YAML or JSON.
//
//	spec, err := config.Parse(data, config.ParseOptions{Name: "mesh.yaml"})
//	if err != nil {
//		log.Fatal(err) // mesh.yaml:12:7: services.orders.retry.atempts: unknown field, did you mean "attempts"?
//	}
//	mesh, err := zerohop.New(zerohop.Config{Spec: spec, Resolver: resolver})
//
// The fields are those of zerohop.Spec, by the names in the tags of their structs:
//
//	defaults:
//	  timeout: 2s
//	services:
//	  orders:
//	    retry: {attempts: 2}
//	  invoices:              # known, and by the defaults
//	policies:
//	  slow: {timeout: 30s}
//	routes:
//	- name: reports
//	  match: {service: orders, path: {prefix: /reports}}
//	  policy: slow
//
// Reading is strict. A field that does not exist, is there twice or has another type than it should is a mistake, and so are
// anchors, aliases, merge keys and tags of YAML, a second document, more than 4 MiB, and values that are nested more than 64
// deep. All mistakes are told at once, each with line and column.
//
// What values look like is the same in YAML and JSON:
//
//   - Durations are text with a unit, "250ms" or "1m30s". Numbers are refused: 250 could be anything.
//   - Times are those of RFC 3339, 2006-01-02T15:04:05Z.
//   - Switches are on and off. In YAML 1.2, which this package reads, these are text and need no quotes; true and false are
//     refused.
//   - Text that YAML takes for a number or a boolean needs quotes: version: "1.10".
//   - Numbers are written as in JSON, so 0123, 0x7b and 1_000 are refused.
//   - What is null or empty is not set. Items of lists and texts in maps must not be null.
//
// Where ParseOptions.Expand asks for it, ${NAME} in a value stands for a variable. It stands for text only: it
// makes no fields, no lists and no keys, whatever is in it. A field that is no text takes what the text says, also from quotes:
// "attempts": "${ATTEMPTS:-3}". Mind that ${name} in the replacement of a regular expression has to be written $${name} then.
//
// Do not use this package if the Spec is written in Go and does not change: it brings a parser of YAML along.
package config
