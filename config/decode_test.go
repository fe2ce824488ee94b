package config

import (
	"strings"
	"testing"
	"time"
)

func TestDecodeIsAsStrictAsParse(t *testing.T) {
	type door struct {
		Wait time.Duration `yaml:"wait,omitempty"`
	}
	var got struct {
		Skipped func()          `yaml:"-"`
		Doors   map[string]door `yaml:"doors,omitempty"`
	}
	d, err := Decode([]byte("doors:\n  front:\n    wait: 2s\n"), ParseOptions{Name: "house.yaml"}, &got)
	if err != nil || got.Doors["front"].Wait != 2*time.Second {
		t.Fatalf("Decode() = %+v, %v", got, err)
	}
	if line, column, ok := d.Position("doors.front.wait"); line != 3 || column != 5 || !ok {
		t.Errorf("Position() = %d:%d, %v, want 3:5", line, column, ok)
	}
	_, err = Decode([]byte("doors:\n  front:\n    weight: 2s\n  back: {wait: 3}\n"), ParseOptions{Name: "house.yaml"}, &got)
	if err == nil || !strings.Contains(err.Error(), "house.yaml:3:5: doors.front.weight: unknown field") || !strings.Contains(err.Error(), "house.yaml:4:16: doors.back.wait") {
		t.Errorf("Decode() = %v, want both mistakes with their places", err)
	}
}
