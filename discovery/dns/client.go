package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// tryTime bounds the asking of all servers.
	tryTime = 2 * time.Second
	// lastTry is when the last of them is asked. A name server that is well again right after it was asked in vain
	// answers to the next watch, which begins up to 1.5 s after this one has failed: all in all within 2 s.
	lastTry = 1600 * time.Millisecond
	// udpSize is the size of answers that pass all networks in one piece (https://www.dnsflagday.net/2020/).
	udpSize = 1232
	// maxExchanges bounds the messages for one question whose aliases have to be asked for one by one.
	maxExchanges = 8
)

// errNoAnswer stands for a server that keeps silent.
var errNoAnswer = errors.New("no answer")

// failure is why a question has no answer.
type failure struct {
	q        question
	err      error
	answered bool // by a server, though not with an answer
}

func (f *failure) Error() string { return fmt.Sprintf("dns: %v: %v", f.q, f.err) }

func (f *failure) Unwrap() error { return f.err }

// client asks servers, and is a source.
type client struct {
	servers []string
	tcp     bool
	first   atomic.Int32 // which server answered last
}

func (c *client) ask(ctx context.Context, q question) (answer, error) {
	asked, ttl := q, longestLife
	for range maxExchanges {
		a, next, err := c.try(ctx, asked)
		if err != nil {
			return answer{}, err
		}
		ttl = min(ttl, a.ttl)
		if next == "" {
			a.ttl = ttl
			return a, nil
		}
		asked.name = next
	}
	return answer{}, &failure{q: q, err: errAliases, answered: true}
}

// try asks one server after the other until one answers. Those that keep silent are asked twice if there is time.
func (c *client) try(ctx context.Context, q question) (a answer, next string, err error) {
	whole, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	start, step := time.Now(), lastTry/time.Duration(len(c.servers))
	first := int(c.first.Load())
	errs := make([]error, len(c.servers))
	answered := false
	for i := range len(c.servers) + 1 {
		n := (first + i) % len(c.servers)
		if errs[n] != nil && !errors.Is(errs[n], errNoAnswer) {
			continue // another question would not help
		}
		turn, end := whole, func() {}
		if i < len(c.servers) {
			turn, end = context.WithDeadline(whole, start.Add(time.Duration(i+1)*step))
		}
		a, next, errs[n] = c.exchange(whole, turn, c.servers[n], q)
		end()
		if errs[n] == nil {
			c.first.Store(int32(n))
			return a, next, nil
		}
		if whole.Err() != nil {
			break
		}
		answered = answered || !errors.Is(errs[n], errNoAnswer) && !isNetError(errs[n])
	}
	if ctx.Err() != nil {
		return answer{}, "", ctx.Err()
	}
	for n, err := range errs {
		if err != nil {
			errs[n] = fmt.Errorf("%s: %w", c.servers[n], err)
		}
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	return answer{}, "", &failure{q: q, err: serverErrors(errs), answered: answered}
}

// serverErrors is one error in one line.
type serverErrors []error

func (s serverErrors) Error() string {
	texts := make([]string, len(s))
	for i, err := range s {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (s serverErrors) Unwrap() []error { return s }

func isNetError(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

// exchange asks one server. UDP has time until turn ends, TCP until whole does.
func (c *client) exchange(whole, turn context.Context, server string, q question) (answer, string, error) {
	m := newQuery(q)
	network := "udp"
	if c.tcp {
		network, turn = "tcp", whole
	}
	reply, err := talk(turn, network, server, m)
	if err == nil && (reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented) {
		m.Extra = nil // RFC 6891, section 7: the server may not know EDNS
		reply, err = talk(turn, network, server, m)
	}
	if err == nil && reply.Truncated && network == "udp" {
		reply, err = talk(whole, "tcp", server, m)
	}
	if err != nil {
		return answer{}, "", err
	}
	if reply.Truncated {
		return answer{}, "", errors.New("the answer is cut off over TCP")
	}
	return read(reply, q)
}

func newQuery(q question) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.SetEdns0(udpSize, false)
	return m
}

// talk sends m and returns the answer to it.
func talk(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
	query, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	// A new socket each time, so that the port is one that nobody can guess.
	conn, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, silence(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })() // ends reads and writes
	var reply *dns.Msg
	if network == "tcp" {
		reply, err = talkTCP(conn, query, m)
	} else {
		reply, err = talkUDP(conn, query, m)
	}
	if err != nil {
		return nil, silence(ctx, err)
	}
	return reply, nil
}

// silence makes one error of all the ways in which time runs out.
func silence(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return errNoAnswer
	}
	return err
}

func talkUDP(conn net.Conn, query []byte, m *dns.Msg) (*dns.Msg, error) {
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096) // some send more than they are asked to
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		// What does not answer this question may come from somebody who guesses: it decides nothing.
		if n < 2 || binary.BigEndian.Uint16(buf) != m.Id {
			continue
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(buf[:n]); err != nil {
			return nil, fmt.Errorf("answer of %d bytes: %w", n, err)
		}
		if answers(reply, m) {
			return reply, nil
		}
	}
}

func talkTCP(conn net.Conn, query []byte, m *dns.Msg) (*dns.Msg, error) {
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, fmt.Errorf("no answer over TCP: %w", err)
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, fmt.Errorf("part of an answer over TCP: %w", err)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(buf); err != nil {
		return nil, fmt.Errorf("answer of %d bytes: %w", len(buf), err)
	}
	if !answers(reply, m) {
		return nil, errors.New("the answer belongs to another question")
	}
	return reply, nil
}

// answers reports whether reply belongs to the query m.
func answers(reply, m *dns.Msg) bool {
	if !reply.Response || reply.Id != m.Id || reply.Opcode != m.Opcode {
		return false
	}
	if len(reply.Question) == 0 { // servers that could not read it leave it out
		return reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented
	}
	got, want := reply.Question[0], m.Question[0]
	return len(reply.Question) == 1 && got.Qtype == want.Qtype && got.Qclass == want.Qclass &&
		strings.EqualFold(got.Name, want.Name)
}
