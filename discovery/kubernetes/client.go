package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/zerohop/zerohop/internal/kubeapi"
)

// serviceAccount is where Kubernetes puts the credentials of a pod.
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// ClientConfig says how to reach an API server. The zero value is right in a pod, and on a machine where kubectl works.
type ClientConfig struct {
	// REST is a configuration of client-go. Its limits of rates, warning handler and timeout have no effect: a
	// Resolver has bounds of its own. It is copied. nil means Kubeconfig.
	REST *rest.Config
	// Kubeconfig is the path of a kubeconfig file. Empty means the service account of the pod; outside of pods, the files
	// in $KUBECONFIG, else ~/.kube/config.
	Kubeconfig string
	// Context is the context of the kubeconfig to use. Empty means its current one. In a pod it needs Kubeconfig.
	Context string
}

// Client talks to an API server. It is safe for concurrent use. Watches share its connections, those of package
// config/kubernetes as well.
type Client struct {
	api kubeapi.Client
	// namespace is that of the pod or of the context; may be empty.
	namespace string
}

// API is for packages of this module.
func (c *Client) API() *kubeapi.Client { return &c.api }

// Namespace returns that of the pod or of the context of the kubeconfig, else "default".
func (c *Client) Namespace() string { return cmp.Or(c.namespace, "default") }

// NewClient returns a client. It reads files but makes no request. Its errors say what cannot be read.
//
// A token from a file, that of the service account for one, is read before each request, so that one that was
// rotated is used at once. Redirects are not followed, which would send it along. Connections are those of
// client-go: HTTP/2 with pings after 30 s of silence, and given up 15 s later (HTTP2_READ_IDLE_TIMEOUT_SECONDS and
// HTTP2_PING_TIMEOUT_SECONDS change that).
func NewClient(config ClientConfig) (*Client, error) {
	loaded, namespace, err := config.load(serviceAccount)
	if err != nil {
		return nil, err
	}
	return newClient(loaded, namespace)
}

func newClient(config *rest.Config, namespace string) (*Client, error) {
	loaded := rest.CopyConfig(config)
	// The bounds are per request: a watch lasts.
	loaded.Timeout = 0
	loaded.UserAgent = cmp.Or(loaded.UserAgent, "zerohop")
	// client-go reads the file once a minute, and logs to stderr if it cannot.
	tokenFile := loaded.BearerTokenFile
	if tokenFile != "" {
		loaded.BearerToken, loaded.BearerTokenFile = "", ""
	}
	base, _, err := rest.DefaultServerUrlFor(loaded)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: address of the API server %q: %w", loaded.Host, err)
	}
	shared, err := rest.HTTPClientFor(loaded)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: client for %s: %w", base.Host, err)
	}
	own := *shared // may be http.DefaultClient
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{api: kubeapi.Client{HTTP: &own, Base: base, TokenFile: tokenFile}, namespace: namespace}, nil
}

// load returns the configuration and the namespace it names.
func (c ClientConfig) load(account string) (*rest.Config, string, error) {
	inPod := os.Getenv("KUBERNETES_SERVICE_HOST") != ""
	switch {
	case c.REST != nil && (c.Kubeconfig != "" || c.Context != ""):
		return nil, "", errors.New("kubernetes: ClientConfig has REST and also Kubeconfig or Context")
	case c.REST != nil:
		return c.REST, "", nil
	case c.Kubeconfig == "" && inPod && c.Context != "":
		return nil, "", errors.New("kubernetes: ClientConfig.Context without Kubeconfig: a pod has no contexts")
	case c.Kubeconfig == "" && inPod:
		return inCluster(account)
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	rules.WarnIfAllMissing = false
	raw, err := rules.Load()
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes: kubeconfig: %w", err)
	}
	chosen := clientcmd.NewNonInteractiveClientConfig(*raw, c.Context, &clientcmd.ConfigOverrides{}, rules)
	loaded, err := chosen.ClientConfig()
	if clientcmd.IsEmptyConfig(err) && c.Kubeconfig == "" {
		return nil, "", errors.New("kubernetes: neither in a pod nor with a kubeconfig in $KUBECONFIG or ~/.kube/config: set ClientConfig.Kubeconfig or REST")
	}
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes: kubeconfig: %w", err)
	}
	namespace, _, err := chosen.Namespace()
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes: namespace of the kubeconfig: %w", err)
	}
	return loaded, namespace, nil
}

// inCluster is rest.InClusterConfig, which goes on without the certificate of the cluster if it cannot read it.
func inCluster(account string) (*rest.Config, string, error) {
	ca, token := filepath.Join(account, "ca.crt"), filepath.Join(account, "token")
	for _, file := range []string{ca, token} {
		if _, err := os.ReadFile(file); err != nil {
			return nil, "", fmt.Errorf("kubernetes: service account: %w", err)
		}
	}
	namespace, err := os.ReadFile(filepath.Join(account, "namespace"))
	if err != nil {
		return nil, "", fmt.Errorf("kubernetes: service account: %w", err)
	}
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), cmp.Or(os.Getenv("KUBERNETES_SERVICE_PORT"), "443"))
	return &rest.Config{
		Host:            "https://" + host,
		BearerTokenFile: token,
		TLSClientConfig: rest.TLSClientConfig{CAFile: ca},
	}, strings.TrimSpace(string(namespace)), nil
}
