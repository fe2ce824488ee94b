package healthcheck

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestThresholds(t *testing.T) {
	for _, c := range []struct {
		healthy, unhealthy int
		unproven           bool
		results, want      string // + is well
	}{
		{0, 0, false, "++++", "++++"},
		{0, 0, false, "+--+---++", "+++++" + "+--+"}, // three in a row, then two
		{0, 0, false, "+-+-+-+-+", "+++++++++"},
		{0, 0, false, "-+-++", "----+"}, // the first decides
		{0, 0, true, "+--", "+++"},
		{0, 0, true, "-++", "--+"},
		{1, 1, false, "+-+-", "+-+-"},
		{3, 2, false, "+--++-+++", "++------+"},
	} {
		cfg := Config{Healthy: c.healthy, Unhealthy: c.unhealthy, Unproven: c.unproven}.withDefaults()
		s := state{passing: !c.unproven}
		var got strings.Builder
		for _, r := range c.results {
			s.take(&cfg, r == '+')
			got.WriteByte("-+"[map[bool]int{true: 1}[s.passing]])
		}
		if got.String() != c.want {
			t.Errorf("with thresholds %d and %d, results %s make it %s, want %s", c.healthy, c.unhealthy, c.results, got.String(), c.want)
		}
	}
}

func TestIntervals(t *testing.T) {
	var (
		well      = state{known: true, passing: true}
		doubtful  = state{known: true, passing: true, against: 1}
		unwell    = state{known: true}
		returning = state{known: true, against: 1}
	)
	for _, c := range []struct {
		name  string
		cfg   Config
		state state
		idle  bool
		rand  uint64
		want  time.Duration
	}{
		{"well", Config{}, well, false, 0, 10 * time.Second},
		{"with all of its jitter", Config{}, well, false, math.MaxUint64, 11 * time.Second},
		{"with half of its jitter", Config{Jitter: 0.5}, well, false, 1 << 63, 12500 * time.Millisecond},
		{"without jitter", Config{Jitter: -1}, well, false, math.MaxUint64, 10 * time.Second},
		{"doubtful", Config{}, doubtful, false, 0, 2 * time.Second},
		{"unwell", Config{}, unwell, false, 0, 2 * time.Second},
		{"returning", Config{FastInterval: 5 * time.Second}, returning, false, 0, 5 * time.Second},
		{"idle", Config{}, well, true, 0, time.Minute},
		{"unwell and idle", Config{}, unwell, true, 0, time.Minute},
		{"idle with a long interval", Config{Interval: time.Hour}, well, true, 0, time.Hour},
	} {
		cfg := c.cfg.withDefaults()
		if got := c.state.wait(&cfg, c.idle, c.rand).Round(time.Millisecond); got != c.want {
			t.Errorf("wait() of one that is %s = %v, want %v", c.name, got, c.want)
		}
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string // the field
	}{
		{Config{}, ""},
		{Config{Interval: 5}, "interval"},
		{Config{Interval: -time.Second}, "interval"},
		{Config{FastInterval: time.Millisecond}, "fastInterval"},
		{Config{Interval: time.Minute, IdleInterval: time.Second}, "idleInterval"},
		{Config{Timeout: 3}, "timeout"},
		{Config{Jitter: 1.5}, "jitter"},
		{Config{Jitter: math.NaN()}, "jitter"},
		{Config{Healthy: -1}, "healthy"},
		{Config{Unhealthy: -1}, "unhealthy"},
		{Config{InFlight: -1}, "inFlight"},
		{Config{Rate: math.Inf(1)}, "rate"},
		{Config{Rate: math.NaN()}, "rate"},
		{Config{Spread: -1, Jitter: -1, Rate: 0.1, InFlight: 1}, ""},
	} {
		err := c.cfg.Validate()
		if got, _, _ := strings.Cut(errorText(err), ":"); got != c.want {
			t.Errorf("Validate() of %+v = %v, want an error of %q", c.cfg, err, c.want)
		}
		New(c.cfg, nil, nil, nil) // takes anything
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func FuzzConfig(f *testing.F) {
	f.Add(int64(1), int64(2), int64(-3), int64(4), 0.5, -1, 1e300)
	f.Fuzz(func(t *testing.T, interval, fast, idle, timeout int64, jitter float64, count int, rate float64) {
		c := Config{
			Interval: time.Duration(interval), FastInterval: time.Duration(fast), IdleInterval: time.Duration(idle), Timeout: time.Duration(timeout),
			Jitter: jitter, Healthy: count, Unhealthy: count, InFlight: count, Rate: rate,
		}.withDefaults()
		for _, s := range []state{{}, {passing: true}, {passing: true, against: 1}} {
			for _, idle := range []bool{false, true} {
				if got := s.wait(&c, idle, math.MaxUint64); got < leastInterval && c.Interval < math.MaxInt64/4 && c.FastInterval < math.MaxInt64/4 && c.IdleInterval < math.MaxInt64/4 {
					t.Errorf("wait() = %v, want %v at least", got, leastInterval)
				}
			}
		}
		if c.Healthy < 1 || c.Unhealthy < 1 || c.InFlight < 1 || !(c.Rate > 0) || c.Timeout <= 0 {
			t.Errorf("defaults of bad input are %+v", c)
		}
	})
}

func TestParseStatuses(t *testing.T) {
	for _, c := range []struct {
		list      string
		good, bad []int
	}{
		{"", []int{200, 204, 299}, []int{199, 300, 404, 503}},
		{"200", []int{200}, []int{201, 299}},
		{"200-399, 404", []int{200, 302, 399, 404}, []int{400, 403, 405, 503}},
		{"503", []int{503}, []int{200}},
	} {
		s, err := ParseStatuses(c.list)
		if err != nil {
			t.Errorf("ParseStatuses(%q) = %v", c.list, err)
		}
		for _, status := range c.good {
			if !s.Contain(status) {
				t.Errorf("%q does not contain %d", c.list, status)
			}
		}
		for _, status := range c.bad {
			if s.Contain(status) {
				t.Errorf("%q contains %d", c.list, status)
			}
		}
	}
	for _, list := range []string{"x", "200-", "-200", "300-200", "100", "600", "200,,204", "200;204", "2xx"} {
		if s, err := ParseStatuses(list); err == nil {
			t.Errorf("ParseStatuses(%q) = %v, want an error", list, s)
		}
	}
}
