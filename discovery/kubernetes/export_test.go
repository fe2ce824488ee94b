package kubernetes

// NewPodClient returns the client of a pod whose service account is in the given folder.
func NewPodClient(account string) (*Client, error) {
	config, namespace, err := ClientConfig{}.load(account)
	if err != nil {
		return nil, err
	}
	return newClient(config, namespace)
}
