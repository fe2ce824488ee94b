package routing

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

func mustPattern(tb testing.TB, text string) *pattern {
	tb.Helper()
	prog, err := parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	return newPattern(text, prog)
}

var patterns = []string{
	``, `a`, `a*`, `.*`, `(?s).*`, `a|b|`, `(a|ab)(c|bcd)(d*)`, `^a$`, `^$`, `$^`, `a$b`, `a^b`, `(?i)straße`, `(?i)k`, `[^/]+`, `\w+`,
	`\pL+`, `/v[0-9]+/[^/]+(/.*)?`, `(x+x+)+y`, `[a-é]+`, `\x{10FFFF}`, `(?:a?){5}a{5}`, `(a{1,10}){1,10}`, `.*a.{5}`, `\bfoo\b`, `(?m)^a$`,
	`[[:^alpha:]]`, `a\z`, `\Aa`, `(^a|b$)*`, `(|a)+`, `[^\x00-\x{10FFFF}]`, "[\uFFFD]+", `.*a.{20}`,
}

func checkPattern(t *testing.T, text, subject string) {
	t.Helper()
	prog, err := parse(text)
	if err != nil {
		return
	}
	p := newPattern(text, prog)
	want := len(subject) <= maxSubject && regexp.MustCompile(`\A(?:`+text+`)\z`).MatchString(subject)
	if got := fits(p, subject); got != want {
		t.Fatalf("fits(%q, %q) = %v, want %v; automaton %v", text, subject, got, want, p.automaton != nil)
	}
	if got := fits(p, []byte(subject)); got != want {
		t.Fatalf("fits(%q, []byte(%q)) = %v, want %v", text, subject, got, want)
	}
}

func TestPatternsAgreeWithRegexp(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	letters := []string{"a", "b", "c", "d", "x", "y", "/", "v", "1", "K", "k", "\u212a", "é", "ß", "ẞ", "S", "s", "\n", "\xff", "\U0010ffff", "\uFFFD", " ", "foo"}
	subjects := []string{"", "abcd", "straße", "STRASSE", "STRAẞE", "/v12/x/y", "xxxy", "aaaaaaaaaa", "foo", "a\nb", strings.Repeat("a", maxSubject), strings.Repeat("a", maxSubject+1)}
	texts := 200
	if raced {
		texts = 20
	}
	for range texts {
		var b strings.Builder
		for range random.IntN(12) {
			b.WriteString(letters[random.IntN(len(letters))])
		}
		subjects = append(subjects, b.String())
	}
	for _, p := range patterns {
		for _, s := range subjects {
			checkPattern(t, p, s)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, p := range patterns {
		f.Add(p, "abcd/v1/xé")
	}
	f.Fuzz(func(t *testing.T, text, subject string) {
		if len(text) <= maxPattern {
			checkPattern(t, text, subject)
		}
	})
}

func TestUsualPatternsBecomeAutomata(t *testing.T) {
	for _, text := range []string{
		`/v[0-9]+/users/[^/]+/orders/\d+`, `.*\.(png|jpe?g|gif|svg|webp)`, `(?i)/API/.*`, `^/[a-z]{2}-[A-Z]{2}/.*$`, `\w+@example\.(com|org)`,
		`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, `.*foo.*bar.*`, `\pL{1,20}`, `[^/]{1,63}`, `(Mozilla|Opera).*(Android|iPhone).*`,
	} {
		if p := mustPattern(t, text); p.automaton == nil {
			t.Errorf("%s is no automaton", text)
		}
	}
}
