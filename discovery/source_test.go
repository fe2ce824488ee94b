package discovery

import "testing"

type sourced struct {
	Static
	remote bool
}

func (s sourced) Remote() bool { return s.remote }

func TestIsRemote(t *testing.T) {
	for name, tt := range map[string]struct {
		resolver Resolver
		want     bool
	}{
		"static":        {Static{}, false},
		"remote":        {sourced{remote: true}, true},
		"says it's not": {sourced{}, false},
		"nil":           {nil, false},
	} {
		if got := IsRemote(tt.resolver); got != tt.want {
			t.Errorf("%s: IsRemote() = %v, want %v", name, got, tt.want)
		}
	}
}
