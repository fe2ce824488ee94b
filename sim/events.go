package sim

import "time"

// event is something to do at a time. Of two at the same time, that comes first which was planned first, unless times are
// rounded.
type event struct {
	at    time.Duration
	order uint64
	do    func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.order < o.order }

// events are a heap: none comes before that in whose place, halved, it would be. Package container/heap would allocate
// memory for each of them.
type events []event

func (h *events) push(e event) {
	list := append(*h, e)
	*h = list
	i := len(list) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !e.before(&list[up]) {
			break
		}
		list[i] = list[up]
		i = up
	}
	list[i] = e
}

// pop takes the first event. There must be one.
func (h *events) pop() event {
	list := *h
	first, end := list[0], len(list)-1
	e := list[end]
	list[end] = event{}
	list = list[:end]
	*h = list
	if end == 0 {
		return first
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= end {
			break
		}
		if down+1 < end && list[down+1].before(&list[down]) {
			down++
		}
		if !list[down].before(&e) {
			break
		}
		list[i] = list[down]
		i = down
	}
	list[i] = e
	return first
}
