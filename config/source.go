package config

import "context"

// Source is where a document is kept and can be seen to change. Its implementations are in the packages below this one, and
// configtest checks that they keep this contract.
type Source interface {
	// Watch calls update with the whole document as soon as it is known and after each change, or with nil if there is none now.
	// It may call it with a document that did not change. Calls are sequential and none comes after Watch returned; the slice
	// belongs to update. Watch blocks until ctx ends or the watch breaks, and always returns a non-nil error: that of ctx
	// if it ended. It does not retry, cache or parse: that is for Run and Load.
	Watch(ctx context.Context, update func(document []byte)) error
}
