package etcd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/zerohop/zerohop/discovery"
)

// Keys of metadata that have a field of discovery.Endpoint.
const (
	weightKey   = "weight"
	zoneKey     = "zone"
	priorityKey = "zerohop-priority"
	// tagsKey stands for a list of tags, which is joined by commas.
	tagsKey = "tags"
	// secureKey is "true" if the URL that was chosen asks for TLS.
	secureKey = "secure"
)

// errGone stands for a value that says that there is no instance.
var errGone = errors.New("the instance is gone")

// record is the union of the JSON objects that are understood, but for what can have several types.
type record struct {
	// Of etcd's gRPC naming.
	Op   int
	Addr string
	// Ours in addition.
	Zone     string
	Priority uint8
	Health   string
	// Of Kratos.
	Endpoints []string
	// Of Kitex, where Tags are an object. In ours they are a list.
	Network, Address string
	Tags             json.RawMessage
}

// parse reads an object. Metadata and Weight have the types that they nearly always have, or else any.
func parse(value []byte) (r record, meta map[string]string, weight string, err error) {
	var usual struct {
		record
		Metadata map[string]string
		Weight   json.Number
	}
	if json.Unmarshal(value, &usual) == nil {
		return usual.record, usual.Metadata, usual.Weight.String(), nil
	}
	var other struct {
		record
		Metadata, Weight json.RawMessage
	}
	err = json.Unmarshal(value, &other)
	return other.record, textMap(other.Metadata), strings.Trim(string(other.Weight), `"`), err
}

// decode reads a value in one of the known forms. scheme chooses among the URLs of Kratos.
func decode(value []byte, scheme string) (discovery.Endpoint, error) {
	value = bytes.TrimSpace(value)
	if len(value) == 0 {
		return discovery.Endpoint{}, errors.New("it is empty")
	}
	if value[0] != '{' {
		return discovery.Endpoint{Addr: string(value)}, nil // of go-zero
	}
	r, meta, weight, err := parse(value)
	if err != nil {
		return discovery.Endpoint{}, err
	}
	ep := discovery.Endpoint{Addr: r.Addr, Zone: r.Zone, Priority: r.Priority, Health: health(r.Health), Meta: meta}
	switch {
	case r.Op != 0:
		return discovery.Endpoint{}, errGone
	case r.Addr != "":
		// A list; anything else is no tag of ours.
		var tags []string
		if len(r.Tags) > 0 && json.Unmarshal(r.Tags, &tags) == nil && len(tags) > 0 {
			ep.Meta = with(ep.Meta, tagsKey, strings.Join(tags, ","))
		}
	case len(r.Endpoints) > 0:
		u, err := choose(r.Endpoints, scheme)
		if err != nil {
			return discovery.Endpoint{}, err
		}
		ep.Addr = u.Host
		if strings.HasSuffix(u.Scheme, "s") {
			ep.Meta = with(ep.Meta, secureKey, "true")
		}
	case r.Address != "":
		if !slices.Contains([]string{"", "tcp", "tcp4", "tcp6"}, r.Network) {
			return discovery.Endpoint{}, fmt.Errorf("network %q is not tcp", r.Network)
		}
		ep.Addr, ep.Meta = r.Address, textMap(r.Tags)
	default:
		return discovery.Endpoint{}, errors.New("it has none of Addr, endpoints and address")
	}
	fromMeta(&ep, weight)
	return ep, nil
}

// fromMeta fills the fields that metadata gives and removes them there.
func fromMeta(ep *discovery.Endpoint, weight string) {
	if weight != "" {
		ep.Weight = number(weight)
	} else if text, ok := ep.Meta[weightKey]; ok {
		ep.Weight = number(text)
		delete(ep.Meta, weightKey)
	}
	if zone, ok := ep.Meta[zoneKey]; ok && ep.Zone == "" {
		ep.Zone = zone
		delete(ep.Meta, zoneKey)
	}
	if level, err := strconv.ParseUint(ep.Meta[priorityKey], 10, 8); err == nil && ep.Priority == 0 {
		ep.Priority = uint8(level)
		delete(ep.Meta, priorityKey)
	}
	if len(ep.Meta) == 0 {
		ep.Meta = nil
	}
}

// choose returns the only one of urls that has the scheme, with or without an s at its end.
func choose(urls []string, scheme string) (*url.URL, error) {
	var chosen *url.URL
	var schemes []string
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			continue // nothing that could be called
		}
		if scheme != "" && u.Scheme != scheme && u.Scheme != scheme+"s" {
			continue
		}
		chosen = u
		schemes = append(schemes, u.Scheme)
	}
	switch len(schemes) {
	case 0:
		return nil, fmt.Errorf("it has no usable endpoint with scheme %q", scheme)
	case 1:
		return chosen, nil
	}
	return nil, fmt.Errorf("it has endpoints of schemes %s: Resolver.Scheme must choose", strings.Join(schemes, ", "))
}

// number reads a weight. What is none becomes 0, which means 1. What does not fit and what is negative stays
// recognizable: discovery limits such weights, and tells.
func number(text string) uint32 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || f != f {
		return 0
	}
	if f > 0 && f < 1 {
		return 1
	}
	return uint32(int32(min(max(f, math.MinInt32), math.MaxInt32)))
}

// health reads the name of a state. A name that is not known is no good sign.
func health(name string) discovery.Health {
	if name == "" {
		return discovery.Healthy
	}
	for h := discovery.Healthy; h <= discovery.Terminating; h++ {
		if strings.EqualFold(name, h.String()) {
			return h
		}
	}
	return discovery.Unhealthy
}

// textMap reads an object of strings, numbers and truth values. What is nested is left out, and what is no object is none.
func textMap(raw json.RawMessage) map[string]string {
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	var texts map[string]string
	if json.Unmarshal(raw, &texts) == nil {
		return texts
	}
	var values map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if dec.Decode(&values) != nil {
		return nil
	}
	texts = make(map[string]string, len(values))
	for key, value := range values {
		switch value := value.(type) {
		case string:
			texts[key] = value
		case json.Number, bool:
			texts[key] = fmt.Sprint(value)
		}
	}
	return texts
}

func with(meta map[string]string, key, value string) map[string]string {
	if meta == nil {
		meta = make(map[string]string, 1)
	}
	meta[key] = value
	return meta
}
