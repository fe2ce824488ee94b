package xds

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
)

// The environment variables that gRPC reads: the name of a file, and the text itself.
const (
	bootstrapFile = "GRPC_XDS_BOOTSTRAP"
	bootstrapText = "GRPC_XDS_BOOTSTRAP_CONFIG"
)

// maxBootstrap bounds the size of a bootstrap file. That of Istio has 10 KiB.
const maxBootstrap = 4 << 20

// Bootstrap returns the configuration that the environment gives to gRPC: that in the file which GRPC_XDS_BOOTSTRAP
// names, else the text of GRPC_XDS_BOOTSTRAP_CONFIG. See [ParseBootstrap].
func Bootstrap() (Config, error) {
	if path := os.Getenv(bootstrapFile); path != "" {
		text, err := readFile(path)
		if err != nil {
			return Config{}, fmt.Errorf("xds: %s: %w", bootstrapFile, err)
		}
		config, err := ParseBootstrap(text)
		if err != nil {
			return Config{}, fmt.Errorf("%w (%s=%q)", err, bootstrapFile, path)
		}
		return config, nil
	}
	if text := os.Getenv(bootstrapText); text != "" {
		config, err := ParseBootstrap([]byte(text))
		if err != nil {
			return Config{}, fmt.Errorf("%w (%s)", err, bootstrapText)
		}
		return config, nil
	}
	return Config{}, fmt.Errorf("xds: neither %s nor %s is set", bootstrapFile, bootstrapText)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBootstrap+1))
	if err == nil && len(text) > maxBootstrap {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxBootstrap)
	}
	return text, err
}

type bootstrap struct {
	Servers []bootstrapServer `json:"xds_servers"`
	Node    json.RawMessage   `json:"node"`
}

type bootstrapServer struct {
	URI      string             `json:"server_uri"`
	Creds    []bootstrapChannel `json:"channel_creds"`
	Features []string           `json:"server_features"`
}

type bootstrapChannel struct {
	Type   string          `json:"type"`
	Config json.RawMessage `json:"config"`
}

// ParseBootstrap reads the JSON with which gRPC clients are pointed to a control plane
// (https://github.com/grpc/proposal/blob/master/A27-xds-global-load-balancing.md). Of the servers it takes the first, and of its
// channel credentials the first that it knows: "insecure" or "tls"
// (https://github.com/grpc/proposal/blob/master/A65-xds-mtls-creds-in-bootstrap.md; files are read again for each connection).
// The feature "ignore_resource_deletion" makes DeleteGrace negative. What else a bootstrap may have has no
// meaning here.
func ParseBootstrap(text []byte) (Config, error) {
	var b bootstrap
	if err := json.Unmarshal(text, &b); err != nil {
		return Config{}, fmt.Errorf("xds: bootstrap: %w", err)
	}
	var config Config
	var errs []error
	if len(b.Servers) == 0 {
		errs = append(errs, errors.New("xds: bootstrap: xds_servers is missing"))
	} else {
		s := b.Servers[0]
		if config.Server = s.URI; s.URI == "" {
			errs = append(errs, errors.New("xds: bootstrap: xds_servers[0].server_uri is missing"))
		}
		creds, err := channelCredentials(s.Creds)
		if err != nil {
			errs = append(errs, fmt.Errorf("xds: bootstrap: xds_servers[0].channel_creds: %w", err))
		}
		config.Credentials = creds
		if slices.Contains(s.Features, "ignore_resource_deletion") {
			config.DeleteGrace = -1
		}
	}
	node := new(corev3.Node)
	if len(b.Node) > 0 {
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b.Node, node); err != nil {
			errs = append(errs, fmt.Errorf("xds: bootstrap: node: %s", cut(err.Error())))
		}
	}
	if node.GetId() == "" {
		errs = append(errs, errors.New("xds: bootstrap: node.id is missing"))
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	at := node.GetLocality()
	config.Node = Node{
		ID:       node.GetId(),
		Cluster:  node.GetCluster(),
		Region:   at.GetRegion(),
		Zone:     at.GetZone(),
		SubZone:  at.GetSubZone(),
		Metadata: node.GetMetadata().AsMap(),
	}
	return config, nil
}

// channelCredentials returns the first of the listed credentials that we have.
func channelCredentials(list []bootstrapChannel) (credentials.TransportCredentials, error) {
	if len(list) == 0 {
		return nil, errors.New("missing")
	}
	var types []string
	for i, c := range list {
		switch c.Type {
		case "insecure":
			return insecure.NewCredentials(), nil
		case "tls":
			creds, err := parseFileTLS(c.Config)
			if err != nil {
				return nil, fmt.Errorf("[%d].config: %w", i, err)
			}
			return creds, nil
		}
		types = append(types, fmt.Sprintf("%.64q", c.Type))
	}
	return nil, fmt.Errorf("none of %v is supported, only \"insecure\" and \"tls\" are", types[:min(len(types), 10)])
}
