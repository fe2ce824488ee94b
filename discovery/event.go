package discovery

import "time"

// EventKind says what an Event tells.
type EventKind uint8

const (
	// EventPublished says that update has taken a new set.
	EventPublished EventKind = iota + 1
	// EventWatchFailed says that the watch ended with Event.Err and that the next one starts in Event.Wait.
	EventWatchFailed
	// EventEmptyHeld says that the source answered with no endpoints, and that the last set stays until a
	// second answer agrees.
	EventEmptyHeld
	// EventAnswerRejected says that an answer was not usable for the reason in Event.Err, and that the last
	// set stays. Event.Dropped counts what was wrong with an answer without a valid endpoint.
	EventAnswerRejected
	// EventEndpointsDropped says that an answer is used without the parts counted in Event.Dropped.
	// Event.Err names the first endpoint with an unusable address or, if there was none, with an unusable weight.
	EventEndpointsDropped
	// EventRemovalHeld says that an answer lacks more endpoints than RunOptions.MaxRemoval, and that they stay until a
	// second answer agrees.
	EventRemovalHeld
	// EventConfirmed says that the source is heard again, or lists again what was held, and that the set stays as it is.
	EventConfirmed
	// EventEnded says that Run returns. The set is not watched any more.
	EventEnded
	// EventSnapshotUsed says that update has taken the set of RunOptions.Snapshot, because the source does not answer. Event.Lost
	// is when that was heard by the process that saved it.
	EventSnapshotUsed
	// EventSnapshotRejected says that RunOptions.Snapshot has a set that is not used for the reason in Event.Err.
	EventSnapshotRejected
)

// String returns the name of the kind in lower case.
func (k EventKind) String() string {
	switch k {
	case EventPublished:
		return "published"
	case EventWatchFailed:
		return "watch failed"
	case EventEmptyHeld:
		return "empty held"
	case EventAnswerRejected:
		return "answer rejected"
	case EventEndpointsDropped:
		return "endpoints dropped"
	case EventRemovalHeld:
		return "removal held"
	case EventConfirmed:
		return "confirmed"
	case EventEnded:
		return "ended"
	case EventSnapshotUsed:
		return "snapshot used"
	case EventSnapshotRejected:
		return "snapshot rejected"
	default:
		return "unknown"
	}
}

// Event is something that Run did or met. Fields that its Kind does not name are zero, but Endpoints, Held and Lost are
// always set.
type Event struct {
	Kind EventKind
	// Err is the reason, for the kinds that have one.
	Err error
	// Wait is the pause before the next watch.
	Wait time.Duration
	// Endpoints is the size of the set in use.
	Endpoints int
	// Held is how many of them the source does not list any more; see EventEmptyHeld and EventRemovalHeld.
	Held int
	// Lost is when the source was last heard. It is the zero time while a watch works: then the set is as old as its last
	// change, and still right. Before the first answer it is when Run began.
	Lost time.Time
	// Dropped counts what was left out of the answer.
	Dropped Dropped
}

// Dropped counts the parts of one answer that were not taken over, by reason.
type Dropped struct {
	// Addr counts endpoints whose address is not a valid "host:port".
	Addr int
	// Refused counts endpoints whose address RunOptions.Addresses refuses.
	Refused int
	// Duplicate counts endpoints whose address an endpoint before them has.
	Duplicate int
	// Zone counts endpoints that were taken over without their zone, which was too long or not printable.
	Zone int
	// Weight counts endpoints that were taken over with another weight; see Endpoint.Weight.
	Weight int
	// Meta counts entries of metadata that were too many, too long or not printable.
	Meta int
}
