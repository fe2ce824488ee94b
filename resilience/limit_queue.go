package resilience

import "time"

// queue keeps tickets that wait, by level: in the order of their entry, and the most critical ones first. Levels whose
// queue has not been empty for a while are turned round, newest first: who has waited long will probably be gone before
// the answer comes, and work for him makes the others wait until they are, too. That is the adaptive LIFO of B. Maurer,
// "Fail at Scale", ACM Queue 2015 (https://queue.acm.org/detail.cfm?id=2839461), and the sign of a standing queue is that
// of its CoDel variant.
type queue struct {
	lines    [levels]line
	n        int
	expiries []*Ticket // a heap by expiry
	patience time.Duration
}

// line is the queue of one level.
type line struct {
	oldest, newest *Ticket
	n              int
	since          time.Duration // it has not been empty
}

// pressed reports whether the line has stood for so long that the newest go first.
func (q *queue) pressed(l *line, now time.Duration) bool {
	return l.n > 0 && q.patience >= 0 && now-l.since > q.patience
}

// ahead returns how many would be let in before a ticket of the level that entered now.
func (q *queue) ahead(now time.Duration, v level) (n int) {
	for i := int(v) + 1; i < levels; i++ {
		n += q.lines[i].n
	}
	if l := &q.lines[v]; !q.pressed(l, now) {
		n += l.n
	}
	return n
}

func (q *queue) add(now time.Duration, t *Ticket) {
	l := &q.lines[t.level]
	if l.n == 0 {
		l.oldest, l.since = t, now
	} else {
		l.newest.next, t.prev = t, l.newest
	}
	l.newest = t
	l.n++
	q.n++
	q.expiries = append(q.expiries, t)
	q.up(len(q.expiries) - 1)
}

// first returns the ticket to be let in next, nil if none waits.
func (q *queue) first(now time.Duration) *Ticket {
	for i := levels - 1; i >= 0; i-- {
		switch l := &q.lines[i]; {
		case l.n == 0:
		case q.pressed(l, now):
			return l.newest
		default:
			return l.oldest
		}
	}
	return nil
}

// victim returns the ticket that gives way to one of the level, nil if none does: of the least critical ones the one that
// would be let in last.
func (q *queue) victim(now time.Duration, v level) *Ticket {
	for i := range v + 1 {
		switch l := &q.lines[i]; {
		case l.n == 0:
		case q.pressed(l, now):
			return l.oldest
		case i < v:
			return l.newest
		}
	}
	return nil
}

func (q *queue) remove(t *Ticket) {
	l := &q.lines[t.level]
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		l.oldest = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		l.newest = t.prev
	}
	t.prev, t.next = nil, nil
	l.n--
	q.n--

	i, last := t.place-1, len(q.expiries)-1
	t.place = 0
	moved := q.expiries[last]
	q.expiries[last] = nil
	q.expiries = q.expiries[:last]
	if i < last {
		q.put(i, moved)
		q.down(i)
		q.up(i)
	}
}

// soonest returns the ticket that expires first, nil if none waits.
func (q *queue) soonest() *Ticket {
	if len(q.expiries) == 0 {
		return nil
	}
	return q.expiries[0]
}

func (q *queue) put(i int, t *Ticket) { q.expiries[i], t.place = t, i+1 }

func (q *queue) up(i int) {
	t := q.expiries[i]
	for i > 0 {
		parent := (i - 1) / 2
		if q.expiries[parent].expiry <= t.expiry {
			break
		}
		q.put(i, q.expiries[parent])
		i = parent
	}
	q.put(i, t)
}

func (q *queue) down(i int) {
	t := q.expiries[i]
	for {
		child := 2*i + 1
		if child >= len(q.expiries) {
			break
		}
		if right := child + 1; right < len(q.expiries) && q.expiries[right].expiry < q.expiries[child].expiry {
			child = right
		}
		if q.expiries[child].expiry >= t.expiry {
			break
		}
		q.put(i, q.expiries[child])
		i = child
	}
	q.put(i, t)
}
