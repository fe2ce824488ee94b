package incident

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Config says what a Recorder keeps, and where dumps go. The zero value keeps 8 MiB and writes no files by itself.
type Config struct {
	// Instance names the process among others in dumps and in the names of files. Empty means the host name.
	Instance string
	// Zone is that of the process. Empty means that of the mesh.
	Zone string
	// Mesh names what the process belongs to, such as a cluster; it is only written down.
	Mesh string
	// Memory is how many bytes are set aside, for good and at once but for a quarter, which is for the counts of services and routes.
	// 0 means 8 MiB; less than 1 MiB or more than 32 MiB is an error. Objectives need up to 100 kB each on top, and a dump some 100 kB while it is written.
	// With the default, several minutes of a total outage at 10,000 calls a second are in it, and half an hour of calls to ten services.
	Memory int
	// Dir is where Save and missed objectives write files, each at once and as mode 0600. It is made if it is not there, with mode 0700.
	// Empty means that there are no files.
	Dir string
	// MaxFiles is how many dumps are kept in Dir, the newest ones, whoever wrote them. 0 means 20.
	MaxFiles int
	// MaxBytes is how much those may take together. 0 means 64 MiB. The newest dump is kept even if it is larger.
	MaxBytes int64
	// SLOs are the objectives at which the recorder looks each second. At most 64.
	SLOs []SLO
	// CoolDown is how long after a dump for a missed objective there is none for any other. 0 means 10 minutes.
	CoolDown time.Duration
	// OnBreach, if not nil, is called when an objective is missed and the dump for it is written, or could not be. It has a goroutine of
	// its own, and the recorder waits for it before it looks at objectives again. A panic goes no further: it is counted in
	// Stats.Panics, and a note in the dumps to come.
	OnBreach func(Breach)
	// OmitTexts leaves out the texts of errors. They are cut, and what looks like a query or a credential is left out, but they may
	// come from servers, which may write anything into them.
	OmitTexts bool
}

// SLO is an objective for the calls to a service: the share of them that succeed, and in time if Latency is set. Calls that their
// callers cancel do not count.
//
// It is missed if the failures of a long and of a short window burn what they may be within Window at a high rate; see chapter 5 of
// Google's SRE workbook, "Alerting on SLOs", https://sre.google/workbook/alerting-on-slos/.
type SLO struct {
	// Service is whose calls are counted. Empty means those to all services together.
	Service string
	// Objective is the share of calls that are to succeed: above 0 and below 1, such as 0.999.
	Objective float64
	// Latency is how long a call may take. 0 means that it does not matter. All objectives of one service that have one have the same.
	Latency time.Duration
	// Window is what the objective is for. 0 means 30 days.
	Window time.Duration
	// Burns are the windows and rates; none means that within 1/720 of Window calls failed 14.4 times as often as they may, and also in
	// the last twelfth of that, or 6 times as often within 1/120 of Window: an hour and 5 minutes, 6 hours and 30 minutes by default.
	// What a process has not lived yet does not count.
	Burns []Burn
	// MinCalls is how many calls the short window needs for the objective to be missed. 0 means 100.
	MinCalls uint64
}

// Burn is a pair of windows, and how many times as often as the objective allows calls fail in both of them for it to be missed.
type Burn struct {
	Long, Short time.Duration
	Rate        float64
}

// Breach tells of a missed objective.
type Breach struct {
	SLO SLO
	// Burn is the pair of windows in which it was missed. Long and Short are the rates found there.
	Burn        Burn
	Long, Short float64
	Time        time.Time
	// File is the dump, empty if there is none. Err is why, nil if Config.Dir is empty.
	File string
	Err  error
}

const (
	defaultMemory = 8 << 20
	minMemory     = 1 << 20
	maxMemory     = 32 << 20 // whose dumps Read can take: see maxEntries
	maxSLOs       = 64
)

func (c *Config) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("incident: "+format, args...)) }
	if c.Memory != 0 && c.Memory < minMemory || c.Memory > maxMemory {
		fail("Memory is %d, want 0 or from %d to %d", c.Memory, minMemory, maxMemory)
	}
	if c.MaxFiles < 0 || c.MaxBytes < 0 || c.CoolDown < 0 {
		fail("MaxFiles, MaxBytes and CoolDown must not be negative")
	}
	if len(c.SLOs) > maxSLOs {
		fail("%d SLOs, want at most %d", len(c.SLOs), maxSLOs)
	}
	latency := map[string]time.Duration{}
	for i := range c.SLOs {
		s := &c.SLOs[i]
		if !(s.Objective > 0 && s.Objective < 1) {
			fail("SLOs[%d].Objective is %v, want more than 0 and less than 1", i, s.Objective)
		}
		if s.Latency < 0 || s.Window < 0 {
			fail("SLOs[%d]: Latency and Window must not be negative", i)
		}
		if l := latency[s.Service]; l > 0 && s.Latency > 0 && s.Latency != l {
			fail("SLOs[%d].Latency is %v, and %v in another SLO of the service", i, s.Latency, l)
		}
		if s.Latency > 0 {
			latency[s.Service] = s.Latency
		}
		if len(s.Burns) > 8 {
			fail("SLOs[%d] has %d Burns, want at most 8", i, len(s.Burns))
		}
		for j, b := range s.burns() {
			if b.Short < time.Second || b.Long < b.Short || b.Long > 31*24*time.Hour || !(b.Rate > 0) {
				fail("SLOs[%d].Burns[%d]: want a Short window of 1s or more, a Long one that is no shorter, of 31 days at most, and a Rate", i, j)
			}
		}
	}
	if l, all := latency[""]; all {
		for service, x := range latency {
			if x != l {
				fail("Latency of the SLO for all services is %v, and %v for %q: want the same", l, x, service)
			}
		}
	}
	return errors.Join(errs...)
}

func (s *SLO) burns() []Burn {
	if len(s.Burns) > 0 {
		return s.Burns
	}
	w := s.Window
	if w == 0 {
		w = 30 * 24 * time.Hour
	}
	return []Burn{{w / 720, w / 8640, 14.4}, {w / 120, w / 1440, 6}}
}

// instance returns the name of the process.
func (c *Config) instance() string {
	if c.Instance != "" {
		return name(c.Instance)
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name(host)
}
