package incident

import "time"

// Add adds the sums of another second, or of other calls in the same one.
func (s *Second) Add(o *Second) {
	s.Calls += o.Calls
	s.Bad += o.Bad
	s.Canceled += o.Canceled
	s.Slow += o.Slow
	s.Retries += o.Retries
	s.Backups += o.Backups
	s.Refused += o.Refused
	s.FellBack += o.FellBack
	for k, n := range o.Flags {
		if s.Flags == nil {
			s.Flags = map[string]uint64{}
		}
		s.Flags[k] += n
	}
	for k, n := range o.Attempts {
		if s.Attempts == nil {
			s.Attempts = map[Failure]uint64{}
		}
		s.Attempts[k] += n
	}
	for k, n := range o.Addrs {
		if s.Addrs == nil {
			s.Addrs = map[string]uint64{}
		}
		s.Addrs[k] += n
	}
	s.Latency = added(s.Latency, o.Latency)
}

// added adds numbers by bucket. Both lists are in the order of buckets.
func added(a, b [][2]uint64) [][2]uint64 {
	list := make([][2]uint64, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0][0] < b[0][0]:
			list, a = append(list, a[0]), a[1:]
		case a[0][0] > b[0][0]:
			list, b = append(list, b[0]), b[1:]
		default:
			list = append(list, [2]uint64{a[0][0], a[0][1] + b[0][1]})
			a, b = a[1:], b[1:]
		}
	}
	return append(append(list, a...), b...)
}

// Failed is the number of attempts that failed.
func (s *Second) Failed() (n uint64) {
	for _, x := range s.Attempts {
		n += x
	}
	return n
}

// Quantile returns the upper bound of the bucket that the q-th part of the calls ends in, from 0 to 1; 0 if there are none, and of
// the last bucket its lower bound. The bounds are those of the dump.
func (s *Second) Quantile(q float64, bounds []time.Duration) time.Duration {
	var all, sum uint64
	for _, p := range s.Latency {
		all += p[1]
	}
	if all == 0 || len(bounds) == 0 {
		return 0
	}
	for _, p := range s.Latency {
		if sum += p[1]; float64(sum) >= q*float64(all) {
			return bounds[min(p[0], uint64(len(bounds)-1))]
		}
	}
	return bounds[len(bounds)-1]
}
