package routing

import (
	"encoding/binary"
	"regexp/syntax"
	"slices"
	"unicode"
	"unicode/utf8"
)

// maxCells bounds the memory of an automaton, at two bytes each.
const maxCells = 8 << 10

// shortRunes is how many runes have one byte or two in UTF-8. The binary search for longer ones is done three times less often.
const shortRunes = 1 << 11

// automaton is a deterministic finite automaton over classes of runes that decides whether a whole text fits an expression, by
// one look-up a rune. It is made by the subset construction (M. O. Rabin and D. Scott, "Finite Automata and Their Decision
// Problems", 1959). State 0 is that in which nothing fits any more, 1 the first.
type automaton struct {
	short   [shortRunes]uint8 // the classes of what UTF-8 writes in one byte or two
	broken  uint8             // the class of U+FFFD, which a byte that is no UTF-8 counts as
	bounds  []rune            // where a class begins, sorted, from 0 on
	classes []uint8           // of these
	width   int               // how many classes there are
	next    []uint16          // by state and class
	accept  []bool            // by state: the text may end here
}

// accepts reports whether the automaton accepts the text. Bytes that are no UTF-8 count as U+FFFD, as in package regexp.
func accepts[S string | []byte](a *automaton, text S) bool {
	state := 1
	for i := 0; i < len(text); {
		var class uint8
		if c := text[i]; c < utf8.RuneSelf {
			class = a.short[c]
			i++
		} else {
			r, size := utf8.DecodeRuneInString(string(text[i:min(i+utf8.UTFMax, len(text))])) // does not allocate
			switch {
			case r < shortRunes:
				class = a.short[r]
			case r == utf8.RuneError:
				class = a.broken
			default:
				class = a.classOf(r)
			}
			i += size
		}
		if state = int(a.next[state*a.width+int(class)]); state == 0 {
			return false
		}
	}
	return a.accept[state]
}

func (a *automaton) classOf(r rune) uint8 {
	i, ok := slices.BinarySearch(a.bounds, r)
	if !ok {
		i--
	}
	return a.classes[i]
}

// builder makes an automaton of a program.
type builder struct {
	prog  *syntax.Prog
	steps int // left
	seen  []bool
	sets  [][]uint32        // of instructions, by state
	known map[string]uint16 // states by their sets
	takes []int             // by instruction: which of the distinct conditions on a rune it has
	signs []string          // by class: '1' for each of these that its runes meet
}

// newAutomaton returns nil if the program looks at more than runes and the ends of the text, or takes too much.
func newAutomaton(prog *syntax.Prog) *automaton {
	b := &builder{prog: prog, steps: maxBuild, seen: make([]bool, len(prog.Inst)), known: map[string]uint16{}}
	a := &automaton{}
	if !b.classes(a) {
		return nil
	}
	// The first state is found by no set: only there the text begins.
	b.sets = [][]uint32{nil, b.closure([]uint32{uint32(prog.Start)}, syntax.EmptyBeginText)}
	for state := 0; state < len(b.sets); state++ {
		flags := syntax.EmptyEndText
		if state == 1 {
			flags |= syntax.EmptyBeginText
		}
		accept := slices.ContainsFunc(b.closure(b.sets[state], flags), func(pc uint32) bool { return prog.Inst[pc].Op == syntax.InstMatch })
		a.accept = append(a.accept, accept)
		for _, sign := range b.signs {
			var to []uint32
			for _, pc := range b.sets[state] {
				if in := &prog.Inst[pc]; isRune(in) && sign[b.takes[pc]] == '1' {
					to = append(to, in.Out)
				}
			}
			b.steps -= len(b.sets[state]) + 1
			a.next = append(a.next, b.state(b.closure(to, 0)))
		}
		if b.steps < 0 || len(b.sets)*a.width > maxCells {
			return nil
		}
	}
	return a
}

// classes sorts all runes into classes that no instruction tells apart. It reports whether it could.
func (b *builder) classes(a *automaton) bool {
	bounds := []rune{0}
	var distinct []*syntax.Inst // those that take different runes
	b.takes = make([]int, len(b.prog.Inst))
	for i := range b.prog.Inst {
		in := &b.prog.Inst[i]
		if in.Op == syntax.InstEmptyWidth && syntax.EmptyOp(in.Arg)&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0 {
			return false
		}
		if !isRune(in) {
			continue
		}
		b.takes[i] = slices.IndexFunc(distinct, func(d *syntax.Inst) bool {
			return d.Op == in.Op && d.Arg == in.Arg && slices.Equal(d.Rune, in.Rune)
		})
		if b.takes[i] >= 0 {
			continue
		}
		b.takes[i] = len(distinct)
		distinct = append(distinct, in)
		if len(in.Rune) == 1 {
			for r := in.Rune[0]; ; {
				bounds = append(bounds, r, r+1)
				if r = unicode.SimpleFold(r); r == in.Rune[0] {
					break
				}
			}
		}
		for j := 0; j+1 < len(in.Rune); j += 2 {
			bounds = append(bounds, in.Rune[j], in.Rune[j+1]+1)
		}
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	if b.steps -= len(bounds) * len(distinct); b.steps < 0 {
		return false
	}
	known := map[string]uint8{}
	sign := make([]byte, len(distinct))
	for _, r := range bounds {
		for i, in := range distinct {
			sign[i] = '0'
			if in.MatchRune(r) {
				sign[i] = '1'
			}
		}
		class, ok := known[string(sign)]
		if !ok {
			if len(known) == 256 {
				return false
			}
			class = uint8(len(known))
			known[string(sign)] = class
			b.signs = append(b.signs, string(sign))
		}
		a.bounds, a.classes = append(a.bounds, r), append(a.classes, class)
	}
	a.width = len(b.signs)
	for i, r := range a.bounds {
		for ; r < shortRunes && (i+1 == len(a.bounds) || r < a.bounds[i+1]); r++ {
			a.short[r] = a.classes[i]
		}
	}
	a.broken = a.classOf(utf8.RuneError)
	return true
}

// closure returns the instructions that are reached from those without a further rune and say what comes next: runes, the
// end of the text unless flags have it, and the match.
func (b *builder) closure(from []uint32, flags syntax.EmptyOp) []uint32 {
	var set, visited []uint32
	stack := slices.Clone(from)
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if b.seen[pc] {
			continue
		}
		b.seen[pc] = true
		visited = append(visited, pc)
		switch in := &b.prog.Inst[pc]; in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			stack = append(stack, in.Out)
		case syntax.InstEmptyWidth:
			switch op := syntax.EmptyOp(in.Arg); {
			case op&^flags == 0:
				stack = append(stack, in.Out)
			case op&^flags == syntax.EmptyEndText:
				set = append(set, pc)
			}
		case syntax.InstFail:
		default:
			set = append(set, pc)
		}
	}
	for _, pc := range visited {
		b.seen[pc] = false
	}
	b.steps -= len(visited)
	slices.Sort(set)
	return set
}

// state returns the number of the state with that set.
func (b *builder) state(set []uint32) uint16 {
	if len(set) == 0 {
		return 0
	}
	key := make([]byte, 0, 4*len(set))
	for _, pc := range set {
		key = binary.LittleEndian.AppendUint32(key, pc)
	}
	s, ok := b.known[string(key)]
	if !ok {
		s = uint16(len(b.sets)) // at most maxCells
		b.sets = append(b.sets, set)
		b.known[string(key)] = s
	}
	return s
}

func isRune(in *syntax.Inst) bool {
	switch in.Op {
	case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		return true
	}
	return false
}
