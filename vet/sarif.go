package vet

import (
	"encoding/json"
	"io"
	"net/url"
	"path/filepath"
	"strings"
)

// The parts of SARIF 2.1.0 that findings need: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		Version        string      `json:"version,omitempty"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string             `json:"id"`
		Name                 string             `json:"name"`
		ShortDescription     sarifText          `json:"shortDescription"`
		FullDescription      sarifText          `json:"fullDescription"`
		Help                 sarifText          `json:"help"`
		HelpURI              string             `json:"helpUri"`
		DefaultConfiguration sarifConfiguration `json:"defaultConfiguration"`
	}
	sarifConfiguration struct {
		Level Severity `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     Severity        `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		PhysicalLocation sarifPhysical  `json:"physicalLocation"`
		LogicalLocations []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		ArtifactLocation sarifArtifact `json:"artifactLocation"`
		Region           *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
	sarifLogical struct {
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
)

const documentation = "https://github.com/zerohop/zerohop/blob/main/docs/vet.md"

// WriteSARIF writes the findings as a log of SARIF 2.1.0, with all checks as rules. version is that of the program, and may be
// empty.
func WriteSARIF(w io.Writer, version string, findings []Finding) error {
	driver := sarifDriver{Name: "zerohop vet", Version: version, InformationURI: documentation}
	index := map[string]int{}
	for i, c := range checks {
		index[c.ID] = i
		driver.Rules = append(driver.Rules, sarifRule{
			ID: c.ID, Name: pascal(c.ID), ShortDescription: sarifText{sentence(c.Summary)}, FullDescription: sarifText{c.Why},
			Help: sarifText{c.Why + " " + c.Do}, HelpURI: documentation + "#" + c.ID, DefaultConfiguration: sarifConfiguration{c.Severity},
		})
	}
	results := []sarifResult{}
	for _, f := range findings {
		p := sarifPhysical{ArtifactLocation: sarifArtifact{uri(f.Document)}}
		if f.Line > 0 {
			p.Region = &sarifRegion{f.Line, f.Column}
		}
		results = append(results, sarifResult{
			RuleID: f.ID, RuleIndex: index[f.ID], Level: f.Severity, Message: sarifText{f.Message},
			Locations: []sarifLocation{{PhysicalLocation: p, LogicalLocations: []sarifLogical{{f.Path, "member"}}}},
		})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(sarifLog{
		Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0",
		Runs: []sarifRun{{Tool: sarifTool{driver}, ColumnKind: "unicodeCodePoints", Results: results}},
	})
}

// uri returns the reference to a file: relative if its path is.
func uri(name string) string {
	u := url.URL{Path: filepath.ToSlash(name)}
	if filepath.IsAbs(name) {
		u.Scheme = "file"
	}
	return u.String()
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." }

// pascal makes "ejection-cap-zero" "EjectionCapZero".
func pascal(id string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(id, "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
