package loadbalance

import (
	"fmt"
	"math"
	"time"
)

// The algorithms take fields that make no sense for 0 or for their bound. What follows is for those who would rather know.

// Validate names the first field that makes no sense.
func (c LeastRequestConfig) Validate() error {
	if c.Choices != 0 && (c.Choices < 2 || c.Choices > 10) {
		return fmt.Errorf("choices: must be between 2 and 10, got %d", c.Choices)
	}
	return nil
}

// Validate names the first field that makes no sense.
func (c PrequalConfig) Validate() error {
	switch {
	case !(c.Quantile <= 1):
		return fmt.Errorf("quantile: must not be above 1, got %v", c.Quantile)
	case c.Pool != 0 && (c.Pool < 2 || c.Pool > maxPool):
		return fmt.Errorf("pool: must be between 2 and %d, got %d", maxPool, c.Pool)
	case c.MaxAge < 0:
		return fmt.Errorf("maxAge: must not be negative, got %v", c.MaxAge)
	case c.Probes > maxPool:
		return fmt.Errorf("probes: must not be above %d, got %d", maxPool, c.Probes)
	case c.ProbeAge < 0:
		return fmt.Errorf("probeAge: must not be negative, got %v", c.ProbeAge)
	case c.ProbeTimeout < 0:
		return fmt.Errorf("probeTimeout: must not be negative, got %v", c.ProbeTimeout)
	case !(c.ProbeRate >= 0 && c.ProbeRate <= 1e6):
		return fmt.Errorf("probeRate: must be between 0 and a million, got %v", c.ProbeRate)
	}
	return nil
}

// Validate names the first field that makes no sense.
func (c UtilizationConfig) Validate() error {
	switch {
	case c.Expiration < 0:
		return fmt.Errorf("expiration: must not be negative, got %v", c.Expiration)
	case c.Update != 0 && c.Update < 100*time.Millisecond:
		return fmt.Errorf("update: must be at least 100ms, got %v", c.Update)
	case math.IsNaN(c.ErrorPenalty) || c.ErrorPenalty > math.MaxFloat32:
		return fmt.Errorf("errorPenalty: must be a number, got %v", c.ErrorPenalty)
	}
	return nil
}

// Validate names the first field that makes no sense.
func (c HashConfig) Validate() error {
	switch {
	case c.Bound != 0 && !(c.Bound > 1):
		return fmt.Errorf("bound: must be above 1, got %v", c.Bound)
	case c.MinRing < 0 || c.MinRing > maxPoints:
		return fmt.Errorf("minRing: must be between 0 and %d, got %d", maxPoints, c.MinRing)
	case c.MaxRing < 0 || c.MaxRing > maxPoints:
		return fmt.Errorf("maxRing: must be between 0 and %d, got %d", maxPoints, c.MaxRing)
	case c.MaxRing > 0 && c.MinRing > c.MaxRing:
		return fmt.Errorf("minRing: must not be more than maxRing (%d), got %d", c.MaxRing, c.MinRing)
	case c.Table < 0 || c.Table > maxTable:
		return fmt.Errorf("table: must be between 0 and %d, got %d", maxTable, c.Table)
	}
	return nil
}
