//go:build linux

package loader

import "testing"

// What the other tests rely on must not miss anything itself.
func TestStreamSeesEveryFault(t *testing.T) {
	const n = 3 * streamPeriod / 2
	b := (&stream{seed: 5}).fill(make([]byte, n))
	if err := (&stream{seed: 5}).check(b); err != nil {
		t.Fatalf("check() of what fill wrote = %v", err)
	}
	pieces := stream{seed: 5}
	for at := 0; at < n; at += 4099 {
		if err := pieces.check(b[at:min(n, at+4099)]); err != nil {
			t.Fatal(err)
		}
	}
	for name, bad := range map[string][]byte{
		"lost":      append(append([]byte{}, b[:1000]...), b[1001:]...),
		"doubled":   append(append([]byte{}, b[:1000]...), b[999:]...),
		"exchanged": append(append(append([]byte{}, b[:1000]...), b[2000:3000]...), b[1000:2000]...),
		"late":      b[64<<10:],
		"of others": (&stream{seed: 6}).fill(make([]byte, 1000)),
	} {
		if err := (&stream{seed: 5}).check(bad); err == nil {
			t.Errorf("check() does not see bytes that are %s", name)
		}
	}
}
