package main

import (
	"encoding/json"
	"testing"
)

func TestSchemaIsPrinted(t *testing.T) {
	code, stdout, stderr := zerohop(t.Context(), "schema")
	var schema struct{ Properties map[string]any }
	if err := json.Unmarshal([]byte(stdout), &schema); code != exitOK || stderr != "" || err != nil || schema.Properties["routes"] == nil {
		t.Errorf("schema = %d, stdout %.100q, stderr %q, %v", code, stdout, stderr, err)
	}
	if code, stdout, stderr := zerohop(t.Context(), "schema", "x"); code != exitUsage || stdout != "" || stderr != "zerohop schema: takes no arguments, got \"x\"\n" {
		t.Errorf("schema x = %d, stdout %.100q, stderr %q", code, stdout, stderr)
	}
}
