package zerohop

import (
	"errors"
	"fmt"
	"os"
)

// maxOverProvisioning is so much that a priority with one endpoint of a thousand left carries everything.
const maxOverProvisioning = 1000

// validateSharing reports the mistakes in what says between which endpoints calls are shared.
func (p *Policy) validateSharing(path string) error {
	var errs []error
	if !(p.Panic <= 1) {
		errs = append(errs, fmt.Errorf("%s.panic: must not be above 1, got %v", path, p.Panic))
	}
	if f := p.OverProvisioning; f != 0 && !(f >= 1 && f <= maxOverProvisioning) {
		errs = append(errs, fmt.Errorf("%s.overProvisioning: must be between 1 and %d, got %v", path, maxOverProvisioning, f))
	}
	return errors.Join(errs...)
}

// validatePeers reports the mistakes in what says which process this is.
func (c *Config) validatePeers() error {
	if c.Peers < 0 || c.PeerIndex < 0 || c.PeerIndex > 0 && c.PeerIndex >= c.Peers {
		return fmt.Errorf("peerIndex: must be between 0 and the number of peers less one, got %d of %d", c.PeerIndex, c.Peers)
	}
	return nil
}

// instance returns the name of the process where none was given.
func instance() string {
	name, err := os.Hostname()
	if err != nil {
		name = fmt.Sprint("pid-", os.Getpid())
	}
	return name
}
