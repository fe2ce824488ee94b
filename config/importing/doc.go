// Package importing has what the importers of configuration have in common: options, the report of what could not be carried
// over, and the reading of documents. The importers themselves are config/gatewayapi, config/istio and config/serviceconfig,
// each with a function
//
//	func Import(docs []byte, opts importing.Options) (zerohop.Spec, importing.Report, error)
//
// Nothing in the input is dropped silently: each field is carried, approximated with a note, or reported. So an importer takes
// the fields that it understands out of the official Go type ([Take]), and [Importer.Rest] reports all that are left.
//
// A condition that cannot be expressed never makes a rule match more calls: the match is left out and reported as refused. A
// filter that calls must not escape, such as one that authenticates, makes the rule answer 500 instead.
//
// It is not for configuration that is zerohop's own: see package config.
package importing
