package importing

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/zerohop/zerohop"
	"github.com/zerohop/zerohop/routing"
)

// maxName is the longest name of rules and policies.
const maxName = 253

// Rules are the routes and policies of a Spec in the making.
type Rules struct {
	importer *Importer
	spec     *zerohop.Spec
	names    map[string]bool
}

// NewRules returns rules that are added to spec.
func NewRules(m *Importer, spec *zerohop.Spec) *Rules {
	return &Rules{importer: m, spec: spec, names: map[string]bool{}}
}

// Add adds a rule with its policy, which is left out if it is zero. The matches are those of Match and Or, split among several
// rules if they are too many for one. A rule that is not valid is refused: it answers 500, or is left out if the matches are not
// valid either. path is where the document says so.
func (s *Rules) Add(path string, r routing.Rule, p zerohop.Policy) {
	const most = 64
	matches := append([]routing.Match{r.Match}, r.Or...)
	name := r.Name
	for i := 0; i < len(matches); i += most {
		part := matches[i:min(i+most, len(matches))]
		r.Name, r.Match, r.Or = s.unique(name), part[0], part[1:]
		if len(r.Or) == 0 {
			r.Or = nil
		}
		s.add(path, r, p)
	}
}

func (s *Rules) add(path string, r routing.Rule, p zerohop.Policy) {
	r.Policy = ""
	policies := map[string]zerohop.Policy{}
	if !reflect.ValueOf(p).IsZero() {
		r.Policy = r.Name
		policies[r.Name] = p
	}
	if err := (zerohop.Spec{Routes: []routing.Rule{r}, Policies: policies}).Validate(); err != nil {
		s.importer.Lose(path, Refused, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		r = routing.Rule{Name: r.Name, Match: r.Match, Or: r.Or, Response: Failure()}
		if _, err := routing.Compile([]routing.Rule{r}); err != nil {
			return
		}
		policies = nil
	}
	for name, p := range policies {
		if s.spec.Policies == nil {
			s.spec.Policies = map[string]zerohop.Policy{}
		}
		s.spec.Policies[name] = p
	}
	s.spec.Routes = append(s.spec.Routes, r)
}

// unique returns a name for a rule that no other has. What names of rules cannot have becomes "-".
func (s *Rules) unique(name string) string {
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, name)
	if len(name) > maxName-8 {
		name = name[:maxName-8]
	}
	for i, base := 2, name; s.names[name]; i++ {
		name = fmt.Sprintf("%s#%d", base, i)
	}
	s.names[name] = true
	return name
}

// Failure is the answer to calls that have nowhere to go: 500, or UNAVAILABLE for RPCs.
func Failure() *routing.Response { return &routing.Response{Status: 500, Code: 14} }

// Unmatched is the answer to calls that no rule is for: 404, or UNIMPLEMENTED for RPCs.
func Unmatched() *routing.Response { return &routing.Response{Status: 404, Code: 12} }

// Close ends the rules of each host with one that answers as if there were nothing, for the calls that no other is for: hosts may be
// wildcards. Where there are rules for every call, calls that none is for go where they name, so that those of the hosts are not ended
// unless apart is true, which says that rules of one host are never for calls to another that has its own.
func (s *Rules) Close(apart bool) {
	var hosts []string
	caught := map[string]bool{}
	for i := range s.spec.Routes {
		r := &s.spec.Routes[i]
		for _, m := range append([]routing.Match{r.Match}, r.Or...) {
			host := strings.ToLower(m.Service)
			if _, ok := caught[host]; !ok {
				caught[host] = false
				hosts = append(hosts, host)
			}
			m.Service = ""
			if reflect.ValueOf(m).IsZero() {
				caught[host] = true
			}
		}
	}
	for _, host := range hosts {
		wider := func(other string) bool {
			return other != host && (other == "" || other[0] == '*' && strings.HasSuffix(host, other[1:]))
		}
		if host == "" || caught[host] || !apart && slices.ContainsFunc(hosts, wider) {
			continue
		}
		s.spec.Routes = append(s.spec.Routes, routing.Rule{
			Name: s.unique("unmatched/" + host), Match: routing.Match{Service: host}, Response: Unmatched(),
		})
	}
}
