package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/zerohop/zerohop/discovery"
	"github.com/zerohop/zerohop/internal/consulapi"
	"github.com/zerohop/zerohop/internal/pace"
)

// maxAnswer bounds an answer: the largest document that package config reads, 4 MiB, in base64, and what stands around it.
const maxAnswer = 4<<20/3*4 + 64<<10

var (
	errTooLarge = errors.New("the value is larger than 4 MiB")
	errForeign  = errors.New("the answer is not one of Consul: it has no index")
	errOther    = errors.New("the answer is about another key")
)

// Source is a key of Consul whose value is a document. It is a config.Source, and safe for concurrent use.
//
// Each watch holds one request open at the agent, and makes at most one request a second (three in a row), whatever the agent
// does: of changes that follow faster, the last one comes. The leader answers, and makes sure that it still is the leader (the
// mode that Consul calls consistent), so a watch does not go back to an older document. An agent that died without a word is
// noticed within 42 s.
type Source struct {
	// Client reaches the agent. Required. Best made by NewClient of package discovery/consul, which bounds answers before they
	// are read, does not send the token after redirects and hears Retry-After.
	Client *api.Client
	// Key is the whole path of the key, "mesh/orders.yaml". Required.
	Key string
	// TokenFile holds the ACL token, read before each request. Empty means the token of Client.
	TokenFile string
	// Datacenter is where to look. Empty means that of Client, else that of the agent.
	Datacenter string
}

// Watch implements config.Source. Its errors name the key and the address of the agent. They are a *discovery.RefusedError if the
// agent answers with a status other than 200 and 404, or with a value of more than 4 MiB.
func (s Source) Watch(ctx context.Context, update func(document []byte)) error {
	if s.Client == nil {
		return fmt.Errorf("%w in Source", consulapi.ErrNoClient)
	}
	if err := checkKey(s.Key); err != nil {
		return err
	}
	var (
		pacer pace.Pacer
		index uint64 // to block on, if not 0
		told  uint64 // when the document changed that update got last; 0 if there was none
		first = true
	)
	for {
		if err := pacer.Wait(ctx); err != nil {
			return err
		}
		pair, now, err := s.get(ctx, index)
		if err != nil {
			return err
		}
		restored := now < index
		var document []byte
		changed := uint64(0)
		if pair != nil {
			document, changed = pair.Value, pair.ModifyIndex
			if document == nil {
				document = []byte{} // an empty value is no missing one
			}
		}
		if first || restored || changed != told {
			update(document)
		}
		first, told = false, changed
		if index = now; restored {
			index = 0 // to wait for one that may never come again would be in vain
		}
	}
}

// get returns the key, or nil if there is none, and the index to wait for the next change from. It waits if index is not 0.
func (s Source) get(ctx context.Context, index uint64) (*api.KVPair, uint64, error) {
	limit := consulapi.AnswerTime
	if index > 0 {
		limit += consulapi.WaitTime + consulapi.WaitTime/16
	}
	what := fmt.Sprintf("value of %q", s.Key)
	if s.Datacenter != "" {
		what += fmt.Sprintf(" in datacenter %q", s.Datacenter)
	}
	var (
		pair *api.KVPair
		meta *api.QueryMeta
	)
	agent := consulapi.Agent{Client: s.Client, TokenFile: s.TokenFile, Limit: maxAnswer}
	x, err := agent.Call(ctx, what, limit, func(q *api.QueryOptions) (err error) {
		q.Datacenter, q.RequireConsistent = s.Datacenter, true
		q.WaitIndex, q.WaitTime = index, consulapi.WaitTime
		pair, meta, err = s.Client.KV().Get(s.Key, q)
		return err
	})
	switch {
	case errors.Is(err, consulapi.ErrTooLarge):
		return nil, 0, &discovery.RefusedError{Err: x.Explain(what, errTooLarge)}
	case err != nil:
		return nil, 0, err
	case meta.LastIndex == 0:
		return nil, 0, x.Explain(what, errForeign)
	case pair != nil && pair.Key != s.Key:
		return nil, 0, x.Explain(what, errOther)
	}
	return pair, meta.LastIndex, nil
}

// checkKey refuses keys that change the path of a request: servers resolve dots and slashes without a name between them.
func checkKey(key string) error {
	if key == "" {
		return errors.New("consul: Source.Key is empty")
	}
	for name := range strings.SplitSeq(key, "/") {
		if name == "" || name == "." || name == ".." {
			return fmt.Errorf("consul: Source.Key: %q cannot stand in a URL", key)
		}
	}
	return nil
}
