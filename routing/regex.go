package routing

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Limits on regular expressions. They come from a configuration, what they are matched against comes from anywhere, and matching
// takes time in proportion to both. Expressions that become a small automaton take a few nanoseconds a byte; the others, some
// nanoseconds for each instruction and byte, which is why all of them in a table have no more instructions than one may have.
const (
	maxPattern      = 1 << 10  // bytes of one
	maxPatterns     = 64 << 10 // bytes of all in a table, which bounds how long they take to compile
	maxRegexes      = 1000     // in a table
	maxInstructions = 1000     // of one
	maxSlow         = 1000     // instructions of those in a table that are no automaton
	maxSubject      = 1 << 10  // bytes of what they are matched against
	maxBuild        = 25_000   // steps to make one automaton
)

// pattern is a regular expression that a whole text has to fit.
type pattern struct {
	text      string
	automaton *automaton
	slow      *regexp.Regexp // where there is no automaton
	size      int            // instructions
}

// parse returns the program of a regular expression.
func parse(text string) (*syntax.Prog, error) {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		var at *syntax.Error
		if errors.As(err, &at) {
			return nil, fmt.Errorf("%s: %.64q", at.Code, at.Expr)
		}
		return nil, err
	}
	if n := estimate(re); n > 4*maxInstructions { // not to be compiled at all
		return nil, fmt.Errorf("becomes more than %d instructions, at most %d are allowed", 4*maxInstructions, maxInstructions)
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, err
	}
	if n := len(prog.Inst); n > maxInstructions {
		return nil, fmt.Errorf("becomes %d instructions, at most %d are allowed", n, maxInstructions)
	}
	return prog, nil
}

// estimate is about how many instructions an expression becomes, at most a little over what is too many.
func estimate(re *syntax.Regexp) int {
	n := 1
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += estimate(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min+1, re.Max)
	}
	return min(n, 1<<20) // no overflow: repetitions are at most 1,000
}

// newPattern compiles an expression that parse has made into prog.
func newPattern(text string, prog *syntax.Prog) *pattern {
	p := &pattern{text: text, automaton: newAutomaton(prog), size: len(prog.Inst)}
	if p.automaton == nil {
		p.slow = regexp.MustCompile(`\A(?:` + text + `)\z`)
	}
	return p
}

// fits reports whether the whole text fits. A text that is too long does not.
func fits[S string | []byte](p *pattern, text S) bool {
	switch {
	case len(text) > maxSubject:
		return false
	case p.automaton != nil:
		return accepts(p.automaton, text)
	}
	return p.slow.MatchString(string(text))
}

// instructions is the size of the program that a regular expression becomes.
func instructions(text string) (int, error) {
	prog, err := parse(text)
	if err != nil {
		return 0, err
	}
	return len(prog.Inst), nil
}
