package resilience

import "fmt"

// Criticality says how bad it is if a call fails, so that those who have too much to do know what to leave undone first.
// The levels are those of the SRE book (https://sre.google/sre-book/handling-overload/), chapter 21. Greater levels are
// more critical, save that Unspecified counts as Critical.
type Criticality uint8

const (
	// Unspecified says nothing. It counts as Critical.
	Unspecified Criticality = iota
	// Sheddable calls may fail for long: those that fill caches or that can be made up for later, such as batches. They are
	// the first to be shed, and neither repeated nor joined by backups.
	Sheddable
	// SheddablePlus calls may fail for a while. They are repeated, but not joined by backups.
	SheddablePlus
	// Critical calls are those that users feel. Services should have the capacity for all of them.
	Critical
	// CriticalPlus calls are those whose failure users feel the most. They are shed last.
	CriticalPlus
)

// Or returns c, or other if c is Unspecified.
func (c Criticality) Or(other Criticality) Criticality {
	if c == Unspecified {
		return other
	}
	return c
}

// String returns the level as MarshalText writes it, "unspecified" if there is none.
func (c Criticality) String() string {
	switch c {
	case Unspecified:
		return "unspecified"
	case Sheddable:
		return "sheddable"
	case SheddablePlus:
		return "sheddable-plus"
	case Critical:
		return "critical"
	case CriticalPlus:
		return "critical-plus"
	}
	return "unknown"
}

// MarshalText writes the level as "sheddable", "sheddable-plus", "critical" or "critical-plus", and nothing for Unspecified.
func (c Criticality) MarshalText() ([]byte, error) {
	switch {
	case c == Unspecified:
		return nil, nil
	case c > CriticalPlus:
		return nil, fmt.Errorf("resilience: no such criticality: %d", uint8(c))
	}
	return []byte(c.String()), nil
}

// UnmarshalText reads what MarshalText writes, and nothing else: neither blanks nor upper-case letters.
func (c *Criticality) UnmarshalText(text []byte) error {
	level, ok := ParseCriticality(string(text))
	if !ok {
		return fmt.Errorf(`resilience: criticality must be "sheddable", "sheddable-plus", "critical" or "critical-plus", got %.40q`, text)
	}
	*c = level
	return nil
}

// ParseCriticality reads what MarshalText writes. ok is false if text is anything else.
func ParseCriticality(text string) (c Criticality, ok bool) {
	switch text {
	case "":
		return Unspecified, true
	case "sheddable":
		return Sheddable, true
	case "sheddable-plus":
		return SheddablePlus, true
	case "critical":
		return Critical, true
	case "critical-plus":
		return CriticalPlus, true
	}
	return Unspecified, false
}
