package incident

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
	"time"
)

func zip(t testing.TB, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(strings.Join(lines, "\n") + "\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const goodHeader = `{"format":"zerohop incident","version":1,"process":{"instance":"a"},"start":"2026-05-01T10:00:00Z","wall":"2026-05-01T10:01:00Z","at":60000000000,"bounds":[1,2]}`

func TestReadSaysWhereADumpIsWrong(t *testing.T) {
	for _, test := range []struct {
		data []byte
		want string
	}{
		{nil, "x:1: unexpected EOF"},
		{[]byte("hello\n"), "x:1: no dump of an incident"},
		{[]byte{0x1f, 0x8b, 0}, "x: "},
		{zip(t, strings.Replace(goodHeader, `"version":1`, `"version":2`, 1)), "x:1: version is 2, this program reads up to 1"},
		{zip(t, strings.Replace(goodHeader, `[1,2]`, `[2,1]`, 1)), "x:1: bounds[1]"},
		{zip(t, goodHeader, `{`), "x:2: unexpected end"},
		{zip(t, goodHeader, `{"at":1}`), "x:2: kind is missing"},
		{zip(t, goodHeader, `{"kind":"second"}`), "x:2: a second without"},
		{zip(t, goodHeader, `{"kind":"note","at":9000000000000000000}`), "x:2: time out of range"},
		{zip(t, goodHeader, `{"kind":"second","second":{"calls":1,"latency":[[3,1]]}}`), "x:2: bucket 3"},
		{zip(t, goodHeader, `{"kind":"note"}`, `{"end":2}`), "x:3: 1 entries, but the end says 2"},
		{zip(t, goodHeader, `{"kind":"second","second":{"calls":4,"latency":[[1,1],[1,1]]}}`), "x:2: bucket 1 of latency after bucket 1"},
		{zip(t, goodHeader, `{"kind":"note","endpoints":-1}`), "x:2: 0 of -1 endpoints"},
		{zip(t, goodHeader, `{"kind":"failed","call":{"left":9000000000000000000}}`), "x:2: time out of range"},
		{append(zip(t, goodHeader, `{"end":0}`), zip(t, goodHeader, `{"end":0}`)...), "x:3: more after the end"},
		{append(zip(t, goodHeader, `{"end":0}`), 'x'), "x:3: more after the end"},
		{zip(t, goodHeader, `{"end":0}`, `{}`), "x:3: text after the end"},
		{zip(t, goodHeader, `{"kind":"note","text":"`+strings.Repeat("a", maxLine)+`"}`), "x:2: longer than"},
		{zip(t, goodHeader, strings.Repeat(strings.Repeat(" ", 1000)+"{\"kind\":\"note\"}\n", 5000)), "too large for a dump, or a bomb"},
	} {
		_, err := Read(bytes.NewReader(test.data), "x")
		if err == nil || !strings.HasPrefix(err.Error(), "x:") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Read() = %v, want %q", err, test.want)
		}
	}
}

// What a terminal or a browser might obey is in no part of what was read.
func TestReadCleansNames(t *testing.T) {
	const evil = `\u001b[2J\u009b1m\u202e\u0000\n\r`
	lines := []string{strings.Replace(goodHeader, `"a"`, `"`+evil+`"`, 1)}
	for _, kind := range []string{
		`"kind":"K"`, `"kind":"note","service":"K","route":"K","addr":"K","zone":"K","cause":"K","text":"K","by":"K","fields":["K"]`,
		`"kind":"failed","call":{"protocol":"K","method":"K","flag":"K","reason":"K","detail":"K","refusals":["K"],"tries":[{"addr":"K","zone":"K",
		"cause":"K","outcome":"K","flag":"K","text":"K","removed":{"K":1},"compared":["K"]}]}`,
		`"kind":"second","second":{"calls":1,"bad":1,"flags":{"K":1},"attempts":{"K":1},"addrs":{"K":1}}`,
	} {
		lines = append(lines, "{"+strings.ReplaceAll(strings.ReplaceAll(kind, "K", evil), "\n", "")+"}")
	}
	d, err := Read(bytes.NewReader(zip(t, lines...)), "x")
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%+v", d.Header.Process)
	for _, e := range d.Entries {
		all += fmt.Sprintf("%+v %+v %+v %s", e, e.Call, e.Second, e.Words())
	}
	if printable(all) != all {
		t.Errorf("what was read is %q", all)
	}
	if n := strings.Count(all, "1m"); n < 24 {
		t.Errorf("only %d names were read: %s", n, all)
	}
}

func TestReadTakesWhatMemoryHolds(t *testing.T) {
	var c codec
	(&Entry{Seq: 1 << 14, At: time.Minute, Kind: KindNote}).code(&c)
	if rings := maxMemory / 16 * 12; rings/(len(c.buf)+recordHead) > maxEntries {
		t.Errorf("%d bytes hold more entries of %d bytes than the %d that Read takes", rings, len(c.buf)+recordHead, maxEntries)
	}
}

func TestReadTakesWhatThereIs(t *testing.T) {
	r := open(t, Config{Instance: "web-1"})
	for i := range 1000 {
		r.Note(fmt.Sprint("note ", i))
	}
	var b bytes.Buffer
	if err := r.Dump(&b); err != nil {
		t.Fatal(err)
	}
	whole, err := Read(bytes.NewReader(b.Bytes()), "whole")
	if err != nil || len(whole.Entries) != 1000 || whole.Incomplete != "" {
		t.Fatalf("Read() = %v", err)
	}
	half, err := Read(bytes.NewReader(b.Bytes()[:b.Len()/2]), "half")
	if err != nil || half.Incomplete == "" || len(half.Entries) == 0 {
		t.Errorf("Read() = %v, want what there is of half a dump", err)
	}
	spoiled := bytes.Clone(b.Bytes())
	spoiled[len(spoiled)-6] ^= 1
	if _, err := Read(bytes.NewReader(spoiled), "spoiled"); err == nil {
		t.Error("a wrong checksum was not noticed")
	}
}

func TestTextsHideSecrets(t *testing.T) {
	for in, want := range map[string]string{
		"dial tcp 10.0.0.1:80: connect: connection refused": "dial tcp 10.0.0.1:80: connect: connection refused",
		`Get "http://u:p@orders/x?key=v": EOF`:              `Get "http://***@orders/x?***": EOF`,
		"Authorization: Bearer abc.def":                     "Authorization: Bearer ***",
		"bad password=hunter2 for x":                        "bad password=*** for x",
		`{"token": "abc", "n": 1}`:                          `{"token": "***", "n": 1}`,
		"jwt eyJhbGciOi.eyJzdWIi.sig is expired":            "jwt *** is expired",
		"a\x1b[2Jb\nc":                                      "a�[2Jb�c",
	} {
		if got := text(in); got != want {
			t.Errorf("text(%q) = %q, want %q", in, got, want)
		}
	}
	if got := text(strings.Repeat("ä", 1000)); len(got) > maxText {
		t.Errorf("%d bytes, want at most %d", len(got), maxText)
	}
}

func TestRingDropsTheOldest(t *testing.T) {
	r := newRing(4096)
	for i := range 1000 {
		r.add(&Entry{Seq: uint64(i + 1), At: time.Duration(i), Kind: KindNote, Text: strings.Repeat("x", i%100)})
	}
	var got []uint64
	for c := r.cursor(); c.ok; c.advance() {
		got = append(got, c.next.Seq)
		if len(c.next.Text) != int(c.next.Seq-1)%100 {
			t.Fatalf("entry %d has %d bytes of text", c.next.Seq, len(c.next.Text))
		}
	}
	s := r.state()
	if len(got) != s.Records || s.Records < 20 || uint64(s.Records)+s.Overwritten != 1000 || got[len(got)-1] != 1000 || s.Since != time.Duration(got[0]-1) {
		t.Errorf("state %+v, %d read, the last %v", s, len(got), got[max(0, len(got)-1):])
	}
}

func TestBucketsContainTheirLatencies(t *testing.T) {
	bounds := Bounds()
	for d := time.Duration(1); d < 100*time.Second; d = d*9/8 + 1 {
		i := bucketOf(d)
		if i < len(bounds) && d >= bounds[i] || i > 0 && d < bounds[i-1] {
			t.Fatalf("%v is in bucket %d", d, i)
		}
	}
}

func FuzzRead(f *testing.F) {
	r := open(f, Config{})
	call(r.Hooks(), "orders", 0, errBroken)
	r.Note("a note")
	var b bytes.Buffer
	if err := r.Dump(&b); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(unzip(f, b.Bytes())))
	f.Add(b.Bytes())
	f.Add([]byte(goodHeader + "\n" + `{"kind":"second","service":"a","second":{"calls":9,"bad":9,"flags":{"UF":9},"latency":[[1,2]]}}`))
	f.Add([]byte(goodHeader + "\n" + `{"kind":"attempt_failed","service":"a","call":{"tries":[{}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Read(bytes.NewReader(data), "x")
		if (d == nil) != (err != nil) {
			t.Fatalf("Read() = %v, %v", d, err)
		}
		if err != nil {
			return
		}
		tl := Merge([]*Dump{d, d}, nil)
		for _, f := range Analyse(tl, Scope{}) {
			if f.Service == "" || f.Words == "" {
				t.Errorf("finding %+v", f)
			}
		}
		for i := range tl.Events {
			_ = tl.Events[i].Words()
		}
	})
}
