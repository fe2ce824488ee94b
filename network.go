package zerohop

// Network is over what an attempt reached its endpoint.
type Network uint8

const (
	// NetworkTCP is TCP, or whatever the user's own dialer or base transport makes of an address.
	NetworkTCP Network = iota
	// NetworkUnix is a Unix socket on the same host; see Config.Sockets.
	NetworkUnix
	// NetworkInProcess is a handler in the same process.
	NetworkInProcess
)

// String returns "tcp", "unix" or "in-process".
func (n Network) String() string {
	switch n {
	case NetworkUnix:
		return "unix"
	case NetworkInProcess:
		return "in-process"
	default:
		return "tcp"
	}
}
