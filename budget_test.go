package zerohop

import (
	"testing"
	"time"
)

func TestBudgetsInheritFromTheirKindOnly(t *testing.T) {
	ratio := Budget{Mode: On, Kind: "ratio", Ratio: 0.3, Floor: 5, Window: time.Minute}
	for _, tt := range []struct {
		name               string
		narrow, wide, want Budget
	}{
		{"everything", Budget{}, ratio, ratio},
		{"a field", Budget{Floor: -1}, ratio, Budget{Mode: On, Kind: "ratio", Ratio: 0.3, Floor: -1, Window: time.Minute}},
		{"the same kind", Budget{Kind: "ratio", Ratio: 0.1}, ratio, Budget{Mode: On, Kind: "ratio", Ratio: 0.1, Floor: 5, Window: time.Minute}},
		{"another kind", Budget{Kind: "grpc", Tokens: 4}, ratio, Budget{Mode: On, Kind: "grpc", Tokens: 4}},
		{"the default kind", Budget{Kind: "success"}, ratio, Budget{Mode: On, Kind: "success"}},
		{"the default kind by name", Budget{Kind: "success"}, Budget{Mode: Off, Tokens: 3}, Budget{Mode: Off, Kind: "success", Tokens: 3}},
	} {
		if got := tt.narrow.over(tt.wide); got != tt.want {
			t.Errorf("%s: over() = %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
