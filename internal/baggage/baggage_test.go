package baggage

import (
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/baggage"
)

const key = "lane"

func TestGetFindsTheMember(t *testing.T) {
	many := strings.Repeat("a=b,", MaxMembers)
	for _, tt := range []struct {
		name   string
		values []string
		want   string
		ok     bool
	}{
		{"nothing", nil, "", false},
		{"alone", []string{"lane=x"}, "x", true},
		{"among others", []string{"a=1,lane=x,b=2"}, "x", true},
		{"with spaces and properties", []string{"a=1 , lane = x ; ttl=5;p , b=2"}, "x", true},
		{"encoded", []string{"lane=50%25%2Coff%20%C3%A9"}, "50%,off é", true},
		{"plus is plus", []string{"lane=a+b"}, "a+b", true},
		{"in another line", []string{"a=1", "lane=x"}, "x", true},
		{"the last of several", []string{"lane=x,lane=y"}, "y", true},
		{"empty", []string{"lane="}, "", true},
		{"another case is another key", []string{"Lane=x"}, "", false},
		{"a longer key", []string{"lanes=x,a.lane=y"}, "", false},
		{"no value", []string{"lane"}, "", false},
		{"only in a property", []string{"a=1;lane=x"}, "", false},
		{"bad encoding", []string{"lane=%zz"}, "", false},
		{"quoted", []string{`lane="x"`}, "", false},
		{"beside what is no member", []string{"=,;;,\"a\", ,lane=x,%%"}, "x", true},
		{"beyond the members", []string{many + "lane=x"}, "", false},
		{"the last member", []string{many[4:] + "lane=x"}, "x", true},
		{"beyond the bytes", []string{"a=" + strings.Repeat("b", MaxBytes-8) + ",lane=x"}, "", false},
		{"the last bytes", []string{"a=" + strings.Repeat("b", MaxBytes-9) + ",lane=x"}, "x", true},
	} {
		if got, ok := Get(tt.values, key); got != tt.want || ok != tt.ok {
			t.Errorf("%s: Get(%.60q) = %q, %v, want %q, %v", tt.name, tt.values, got, ok, tt.want, tt.ok)
		}
	}
}

func TestSetKeepsOtherMembers(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("a=b,", MaxMembers), ",")
	long := "a=" + strings.Repeat("b", MaxBytes)
	for _, tt := range []struct {
		name   string
		values []string
		value  string
		want   string
		ok     bool
	}{
		{"nothing", nil, "x", "lane=x", true},
		{"empty", []string{"", " , "}, "x", "lane=x", true},
		{"added", []string{"a=1"}, "x", "a=1,lane=x", true},
		{"lines become one", []string{"a=1;p=q", "b=%20 "}, "x", "a=1;p=q,b=%20 ,lane=x", true},
		{"replaced", []string{"lane=y;ttl=1, a=1,lane=z,b=2"}, "x", " a=1,b=2,lane=x", true},
		{"what is no member stays", []string{`"?",;,lanes`}, "x", `"?",;,lanes,lane=x`, true},
		{"encoded", nil, "50%, é", "lane=50%25%2C%20%C3%A9", true},
		{"too many", []string{many}, "x", many + ",lane=x", false},
		{"too long", []string{long}, "x", long + ",lane=x", false},
		{"too long, but no longer", []string{long + ",lane=yy"}, "x", long + ",lane=x", true},
		{"too many, but no more", []string{many + ",lane=y"}, "x", many + ",lane=x", true},
	} {
		if got, ok := Set(tt.values, key, tt.value); got != tt.want || ok != tt.ok {
			t.Errorf("%s: Set(%.60q, %q) = %.80q, %v, want %.80q, %v", tt.name, tt.values, tt.value, got, ok, tt.want, tt.ok)
		}
	}
	if got, want := Delete([]string{"lane=y, a=1", "lane", "b=2"}, key), " a=1,b=2"; got != want {
		t.Errorf("Delete() = %q, want %q", got, want)
	}
	if got := Delete([]string{"lane=y"}, key); got != "" {
		t.Errorf("Delete() = %q, want nothing", got)
	}
}

func TestGetOfOtherMembersDoesNotAllocate(t *testing.T) {
	values := []string{"userId=alice,serverNode=DF%2028;p,lane=feature-x"}
	if n := testing.AllocsPerRun(100, func() {
		if v, _ := Get(values, key); v != "feature-x" {
			t.Errorf("Get() = %q", v)
		}
		Get(values, "none")
	}); n != 0 {
		t.Errorf("Get() makes %v allocations, want 0", n)
	}
}

// Whatever comes in, what is set is found by us, and by OpenTelemetry if it takes the rest; the rest stays in its order.
func FuzzSet(f *testing.F) {
	f.Add("a=1,lane=y;p, b=2", "a=3", "x")
	f.Add("=,\"", ";", "50%,")
	f.Add(strings.Repeat("a=b,", 70), "", "é")
	f.Fuzz(func(t *testing.T, one, two, value string) {
		in := []string{one, two}
		Get(in, key)
		list, ok := Set(in, key, value)
		out := []string{list}
		if before, after := others(in), others(out); !slices.Equal(before, after) {
			t.Fatalf("Set(%q, %q) = %q: other members were %q, are %q", in, value, list, before, after)
		}
		if gone := []string{Delete(out, key)}; Has(gone, key) || !slices.Equal(others(gone), others(in)) {
			t.Fatalf("Delete(%q) = %q", out, gone)
		}
		if !ok || len(list) > MaxBytes || len(others(in)) >= MaxMembers {
			return
		}
		if v, found := Get(out, key); !found || v != value {
			t.Fatalf("Get(Set(%q, %q)) = %q, %v", in, value, v, found)
		}
		if _, err := baggage.Parse(strings.Join(others(in), ",")); err != nil {
			return
		}
		if b, err := baggage.Parse(list); err != nil || strings.ToValidUTF8(value, "") == value && b.Member(key).Value() != value {
			t.Fatalf("OpenTelemetry reads %q in %q (%v), want %q", b.Member(key).Value(), list, err, value)
		}
	})
}

// others returns the members under other keys.
func others(values []string) (list []string) {
	for _, v := range values {
		for member := range strings.SplitSeq(v, ",") {
			if !blank(member) && !named(member, key) {
				list = append(list, member)
			}
		}
	}
	return list
}
