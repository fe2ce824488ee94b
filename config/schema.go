package config

import (
	"bytes"
	_ "embed"
)

// The schema is made of the Go types, their comments and what Spec.Validate says to values that are too small and too large.
//
//go:generate go test -run=^TestSchemaIsAsGenerated$ -update .

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema, draft 2020-12, of the documents that Parse reads, for editors: a document that Parse accepts
// fits it. What needs a look at several fields at once only Parse refuses.
func Schema() []byte { return bytes.Clone(schema) }
