//go:build unix

package outage

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// They wait most of the time, so all of them run at once.
	if err := flag.Set("test.parallel", "100"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// build makes a cell for the service of that name.
type build func(t *testing.T, service string) *cell

func TestOutages(t *testing.T) {
	var result table
	t.Run("of", func(t *testing.T) {
		for source, faults := range map[string]func(*testing.T) map[string]build{
			"consul":     consulFaults,
			"dns":        dnsFaults,
			"etcd":       etcdFaults,
			"kubernetes": kubernetesFaults,
			"xds":        xdsFaults,
			"file":       fileFaults,
		} {
			t.Run(source, func(t *testing.T) {
				t.Parallel()
				for fault, build := range faults(t) {
					t.Run(fault, func(t *testing.T) {
						t.Parallel()
						service := source + "-" + fault
						c := build(t, service)
						c.service = service
						result.add(c.run(t))
					})
				}
			})
		}
	})
	t.Logf("\n%v", &result)
}

// row is what came of a cell.
type row struct {
	name          string
	calls, failed int
	// healing is the time until the endpoints were the true ones, from when the source was well and knew them.
	healing, bound time.Duration
	// age is how long the source had not been heard when the fault ended.
	age time.Duration
	// failures is how many watches failed and requests how many the source got, -1 if nobody counted them, in the given time.
	failures, requests int
	counted            time.Duration
}

// table collects rows. It is safe for concurrent use.
type table struct {
	mu   sync.Mutex
	rows []row // guarded by mu
}

func (a *table) add(r row) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rows = append(a.rows, r)
}

func (a *table) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.rows, func(x, y row) int { return strings.Compare(x.name, y.name) })
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "source-fault\tcalls\tfailed\ttrue set after\tat most\tage before\twatches failed\trequests\tin\trequests/s")
	for _, r := range a.rows {
		requests, rate := "-", "-"
		if r.requests >= 0 {
			requests, rate = fmt.Sprint(r.requests), fmt.Sprintf("%.2f", float64(r.requests)/r.counted.Seconds())
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%v\t%v\t%v\t%d\t%s\t%v\t%s\n", r.name, r.calls, r.failed, r.healing.Round(time.Millisecond), r.bound,
			r.age.Round(100*time.Millisecond), r.failures, requests, r.counted.Round(time.Second), rate)
	}
	w.Flush()
	return text.String()
}
