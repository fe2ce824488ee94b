// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Carries what one socket sends to the receive queue of the other end on the same host, past the TCP stack, where that keeps
 * the order of bytes and bounds what is queued. Where it does not, bytes take TCP, as if this program were not there.
 *
 * The receiver reads what was redirected before what came over TCP. So:
 *
 *  - TCP to redirect: only if no byte of this direction is unread on TCP. Proof: none was ever written, or the other end has
 *    copied all that was written to its user, and is in no call that waits for more on TCP.
 *  - Redirect to TCP: always.
 *
 * What is in a socket's queue is lost if the socket leaves the map, so no socket is replaced in it, and sockets leave when they
 * close. There are two exceptions: those of a connection that redirects nothing any more leave once it is certain that nothing is
 * in the queue, and that nothing can come to it; redirecting gains nothing for streams, and to be in the map makes each send
 * slower. And those that are connected again leave with the queue of the connection before.
 */
#include "kernel.h"

char accel_license[] SEC("license") = "GPL";

/* An address as one end sees it. IPv4 is held as IPv4 in IPv6: a listener for both calls its address so. */
struct key {
	__u64 netns;
	__u32 local[4], remote[4];
	__u16 lport, rport;
	__u32 zero;
};

/* What one end tells the other about itself. */
struct end {
	__u64 sk;     /* struct sock; type-safe under RCU, so valid if the cookie is */
	__u64 cookie; /* 0: not there yet */
	__u32 snd, rcv; /* the first sequence numbers of both directions: equal, crosswise, in the ends of one connection */
};

struct conn {
	struct end ends[2];
	__u32 turn;   /* which end sent last */
	__u32 stream; /* set once and for good: this connection redirects nothing more */
};

enum path { TCP, REDIRECT };

/* Why a connection takes TCP. Package ebpfaccel has them in this order. */
enum reason {
	NO_PEER,   /* the other end did not opt in, is gone or closing */
	UNREAD,    /* bytes on TCP may be unread, or more awaited there */
	FULL,      /* too many bytes or messages are queued */
	STREAM,    /* it carries a stream */
	OFF,       /* switched off */
	ELSEWHERE, /* the other end is not on this host */
	DEVICE,    /* it is bound to a device */
	REFUSED,   /* the map is full, or another program has the socket or its key */
	LATE,      /* it opted in when it was connected, was connected before there was an accelerator, or is not for the first time */
	REASONS,
	NONE = REASONS,
};

/* What is known of a socket. Only its own sends change it, under its lock. */
struct state {
	struct key peer; /* where the other end is in sockets */
	struct end self;
	__u64 peer_sk, peer_cookie; /* 0: not known yet */
	__u32 side;                 /* 0: it connected; 1: it was accepted */
	__u32 path;
	__u32 messages; /* redirected since the queue of the other end was seen empty */
	__u32 hold;     /* messages that still take TCP before a return is thought of */
	__u32 penalty;  /* the last hold */
	__u32 since;    /* messages redirected since the last hold */
	__u32 run_bytes, run_messages; /* sent since the other end sent something */
	__u32 streams;  /* what this end has seen of conn.stream */
	__u32 joined;
	__u32 within; /* it is in sockets, and has not left */
	__u32 accelerated;
	__u32 fell; /* since the last redirected message, or from the start */
	__u64 redirected; /* bytes */
	__u32 fallbacks[REASONS];
};

/* What the owner of a socket is told of it. */
struct report {
	__u64 redirected, tcp; /* bytes that it has sent */
	__u32 fallbacks[REASONS]; /* how often its messages went over to TCP, or began with it */
	__u32 joined;
};

struct counters {
	__u64 sockets;            /* that joined */
	__u64 accelerated;        /* of them, sockets that redirected something */
	__u64 redirected_messages, redirected_bytes;
	__u64 tcp_messages, tcp_bytes;
	/* why messages took TCP */
	__u64 no_peer;  /* the other end has not joined, is gone or closing */
	__u64 unread;   /* bytes on TCP may be unread */
	__u64 held;     /* a while after full */
	__u64 stream;   /* the connection carries a stream */
	__u64 off;      /* switched off */
	/* transitions */
	__u64 full;     /* to TCP: too many bytes or messages are queued */
	__u64 streams;  /* to TCP for good: many bytes without an answer, or full too often */
	__u64 left;     /* sockets that left the map as their connections are streams */
	__u64 returned; /* back from TCP, with proof */
	/* sockets that did not join */
	__u64 refused;  /* the map is full, or another program has the socket or its key */
	__u64 stranger; /* same addresses, but not the other end of this connection */
	__u64 elsewhere; /* the other end is not on this host */
	__u64 device;    /* bound to a device */
	__u64 one_sided; /* accepted from one that did not opt in */
};

struct settings {
	__u32 off;
	__u32 limit;    /* bytes that may be queued at a reader */
	__u32 messages; /* messages that may be */
	__u32 hold;     /* messages that take TCP after a queue was full, at most */
	__u32 stream_bytes, stream_messages; /* without an answer: more make a stream. 0: nothing does */
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct key);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct key); /* as the end that connected sees it */
	__type(value, struct conn);
} conns SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct state);
} states SEC(".maps");

/* Sockets whose owners opted in. What a listener accepts inherits it. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, __u32);
} marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} setting SEC(".maps");

#define COUNT(name, n) do { \
	__u32 zero = 0; \
	struct counters *c = bpf_map_lookup_elem(&counts, &zero); \
	if (c) \
		c->name += (n); \
} while (0)

enum { OPT_LEVEL = 0x6c6f, OPT_ACCELERATE = 1, OPT_REPORT = 2, PAGE = 4096 };

/* Lets an unprivileged process opt in with one of its own sockets. */
SEC("cgroup/setsockopt")
int zerohop_opt_in(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	if (ctx->level != OPT_LEVEL || ctx->optname != OPT_ACCELERATE) {
		/* Older kernels refuse longer values, of which they show a page only: 0 stands for what the caller passed. */
		if (ctx->optlen > PAGE)
			ctx->optlen = 0;
		return 1;
	}
	if (!sk || sk->protocol != IPPROTO_TCP)
		return 1; /* the kernel knows no such option */
	__u32 *mark = bpf_sk_storage_get(&marks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!mark)
		return 1;
	*mark = 1;
	ctx->optlen = -1; /* done: the kernel is not asked */
	return 1;
}

/* What was written to TCP. The kernel counts it modulo 2^32, and what was acknowledged of it in full. */
static inline __u64 tcp_bytes(struct state *st)
{
	struct tcp_sock *tp = (struct tcp_sock *)st->self.sk;
	__u8 shut = 0;
	__u32 written = 0, una = 0;
	__u64 acked = 0;
	bpf_probe_read_kernel(&shut, sizeof(shut), (void *)&((struct sock *)tp)->__sk_common.skc_state);
	bpf_probe_read_kernel(&written, sizeof(written), &tp->write_seq);
	bpf_probe_read_kernel(&una, sizeof(una), &tp->snd_una);
	bpf_probe_read_kernel(&acked, sizeof(acked), &tp->bytes_acked);
	__u64 near = acked + (__u32)(written - una); /* With the ends of the stream, which count as bytes. */
	__u32 low = written - st->self.snd;
	if (low && shut != TCP_ESTABLISHED && shut != TCP_CLOSE_WAIT)
		low--;
	return near + (__s32)(low - (__u32)near);
}

/* Tells an unprivileged process about one of its own sockets. Its lock is held. */
SEC("cgroup/getsockopt")
int zerohop_tell(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	if (ctx->level != OPT_LEVEL || ctx->optname != OPT_REPORT) {
		if (ctx->optlen > PAGE)
			ctx->optlen = 0; /* As above: the answer of the kernel stays as it is. */
		return 1;
	}
	struct report *r = ctx->optval;
	if (!sk || sk->protocol != IPPROTO_TCP || (void *)(r + 1) > ctx->optval_end)
		return 1;
	__u32 *mark = bpf_sk_storage_get(&marks, sk, 0, 0);
	if (!mark)
		return 1;
	__builtin_memset(r, 0, sizeof(*r));
	struct state *st = bpf_sk_storage_get(&states, sk, 0, 0);
	if (st) {
		r->redirected = st->redirected;
		r->tcp = tcp_bytes(st);
		__builtin_memcpy(r->fallbacks, st->fallbacks, sizeof(r->fallbacks));
		r->joined = st->joined;
	} else {
		r->fallbacks[LATE] = 1;
	}
	WRITE_ONCE(ctx->optlen, sizeof(*r)); /* each on its own, as the verifier wants it */
	WRITE_ONCE(ctx->retval, 0);
	return 1;
}

static inline bool key_of(struct bpf_sock_ops *ctx, struct key *k)
{
	/*
	 * The verifier wants each word of the context loaded on its own, from a constant offset. clang would make wider loads, and
	 * one load from two offsets.
	 */
#define WORD(x) (*(volatile __u32 *)&ctx->x)
#define APART asm volatile("" ::: "memory")
	__u32 family = WORD(family);
	if (family == AF_INET) {
		k->local[2] = k->remote[2] = htonl(0xffff);
		k->local[3] = WORD(local_ip4);
		k->remote[3] = WORD(remote_ip4);
		APART;
	} else if (family == AF_INET6) {
		k->local[0] = WORD(local_ip6[0]);
		k->local[1] = WORD(local_ip6[1]);
		k->local[2] = WORD(local_ip6[2]);
		k->local[3] = WORD(local_ip6[3]);
		k->remote[0] = WORD(remote_ip6[0]);
		k->remote[1] = WORD(remote_ip6[1]);
		k->remote[2] = WORD(remote_ip6[2]);
		k->remote[3] = WORD(remote_ip6[3]);
		APART;
	} else {
		return 0;
	}
	k->lport = WORD(local_port);
	k->rport = ntohl(WORD(remote_port));
	k->netns = bpf_get_netns_cookie(ctx);
	return 1;
}

static inline void turn(struct key *to, const struct key *from)
{
	to->netns = from->netns;
	__builtin_memcpy(to->local, from->remote, 16);
	__builtin_memcpy(to->remote, from->local, 16);
	to->lport = from->rport;
	to->rport = from->lport;
	to->zero = 0;
}

/* Reads a field of the other end, which may be gone by now: any value then. */
#define PEER(st, type, field) ({ typeof(((type *)0)->field) v = {}; \
	bpf_probe_read_kernel((void *)&v, sizeof(v), (void *)&((type *)(st)->peer_sk)->field); v; })

/* Memory of sockets is used for nothing else: if the cookie is right before and after, what was read is the other end's. */
static inline bool peer_lives(struct state *st)
{
	return PEER(st, struct sock, __sk_common.skc_cookie.counter) == st->peer_cookie;
}

/*
 * Whether the other end may be in a call that has read what came over TCP, and waits for more there, as MSG_WAITALL and SO_RCVLOWAT
 * make it. It would not see what is redirected meanwhile, and take what comes over TCP after that for the next bytes. Nothing tells
 * of such a call; but there is none if the file is one that never waits, as all are in Go.
 */
static inline bool may_wait(struct state *st)
{
	struct socket *s = PEER(st, struct sock, sk_socket);
	struct file *f = 0;
	__u32 flags = 0;
	bpf_probe_read_kernel(&f, sizeof(f), &s->file);
	bpf_probe_read_kernel(&flags, sizeof(flags), &f->f_flags);
	return !(flags & O_NONBLOCK);
}

/*
 * How many bytes may be queued at the other end for its receive buffer to have room for TCP. The kernel makes the buffer larger for
 * what is redirected to it, unless the user has set its size: then it would drop what comes over TCP after that, and the sender
 * would repeat it after longer and longer times. A quarter is left of what TCP promises half of to its peer.
 */
static inline __u32 room(struct state *st)
{
#define LOCKS(what) __builtin_preserve_field_info(((struct sock *)0)->sk_userlocks, what)
	__u64 locks = 0;
	void *at = (void *)&locks;
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
	at += 8 - LOCKS(FIELD_BYTE_SIZE);
#endif
	bpf_probe_read_kernel(at, LOCKS(FIELD_BYTE_SIZE), (void *)st->peer_sk + LOCKS(FIELD_BYTE_OFFSET));
	locks = locks << LOCKS(FIELD_LSHIFT_U64) >> LOCKS(FIELD_RSHIFT_U64);
	return locks & SOCK_RCVBUF_LOCK ? (__u32)PEER(st, struct sock, sk_rcvbuf) / 4 : ~0U >> 1;
}

static inline struct sk_psock *psock(void *user_data)
{
	enum { PSOCK = 4, FLAGS = 7 };
	__u64 data = (__u64)user_data;
	return data & PSOCK ? (struct sk_psock *)(data & ~(__u64)FLAGS) : 0;
}

/* Bytes in the queue of a socket, which were redirected to it and are unread. */
static inline __u32 queued(struct sk_psock *p)
{
	__u32 n = 0;
	if (p)
		bpf_probe_read_kernel(&n, sizeof(n), &p->msg_tot_len);
	return n;
}

/* How many hold on to a psock: the map, while the socket is in it, and each call that sends or reads. */
static inline __s32 references(struct sk_psock *p)
{
	__s32 n = 0;
	bpf_probe_read_kernel(&n, sizeof(n), &p->refcnt);
	return n;
}

/* Reads the flag and orders memory: an atomic operation does so fully, before and after it, if what it returns is used. */
static inline bool is_stream(struct conn *c)
{
	__u32 stream = __sync_fetch_and_add(&c->stream, 0);
	asm volatile("" : "+r"(stream));
	return stream;
}

static inline struct conn *conn_of(struct state *st)
{
	struct key k = st->peer;
	if (!st->side)
		turn(&k, &st->peer);
	return bpf_map_lookup_elem(&conns, &k);
}

/*
 * Whether both ends can be on this host. To be in the map would cost others something for nothing. An address of this host is
 * reached from that address, unless somebody binds another one, who goes without.
 */
static inline bool within_host(const struct key *k)
{
	const __u32 *l = k->local, *r = k->remote;
	if (l[0] != r[0] || l[1] != r[1] || l[2] != r[2])
		return 0;
	return l[3] == r[3] || (!l[0] && !l[1] && l[2] == htonl(0xffff) && ntohl(l[3]) >> 24 == 127 && ntohl(r[3]) >> 24 == 127);
}

/* Looks for the other end, once: it must be the other end of this very connection. */
static inline bool find_peer(struct state *st, struct conn *c)
{
	struct end *e = &c->ends[st->side ? 0 : 1];
	__u64 cookie = READ_ONCE(e->cookie), sk = READ_ONCE(e->sk);
	__u32 snd = READ_ONCE(e->snd), rcv = READ_ONCE(e->rcv);
	if (!cookie || !sk || cookie != READ_ONCE(e->cookie))
		return 0;
	if (snd != st->self.rcv || rcv != st->self.snd) {
		COUNT(stranger, 1);
		return 0;
	}
	st->peer_sk = sk;
	st->peer_cookie = cookie;
	return 1;
}

static inline int join(struct bpf_sock_ops *ctx, struct bpf_sock *sk, bool active)
{
	__u32 zero = 0;
	__u32 *mark = bpf_sk_storage_get(&marks, sk, 0, 0);
	if (!mark || !*mark)
		return 1;
	struct settings *set = bpf_map_lookup_elem(&setting, &zero);
	struct key self = {}, peer;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	if (!set || !tp || !key_of(ctx, &self))
		return 1;
	turn(&peer, &self);

	struct state *st = bpf_sk_storage_get(&states, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!st) {
		COUNT(refused, 1);
		return 1;
	}
	bool again = st->self.cookie;
	if (st->within) { /* That throws away what is in its queue, which is of the connection before. */
		struct key before;
		turn(&before, &st->peer);
		bpf_map_delete_elem(&sockets, &before);
		st->within = 0;
	}
	st->peer = peer;
	st->side = !active;
	st->self.sk = (__u64)tp;
	st->self.cookie = bpf_get_socket_cookie(ctx);
	/* Data may have gone with the SYN, which counts as one acknowledged byte for the end that sent it first. */
	st->self.snd = active ? ctx->snd_una - (__u32)ctx->bytes_acked + 1 : ctx->snd_nxt;
	st->self.rcv = ctx->rcv_nxt - (__u32)ctx->bytes_received;

	if (again) { /* It was disconnected by connect(2), and what is known of the other end is of the one before. */
		st->fallbacks[LATE]++;
		return 1;
	}
	if (set->off) {
		st->fallbacks[OFF]++;
		return 1;
	}
	if (sk->bound_dev_if) { /* Sockets of different devices can have the same addresses. */
		st->fallbacks[DEVICE]++;
		COUNT(device, 1);
		return 1;
	}
	if (!within_host(&self)) {
		st->fallbacks[ELSEWHERE]++;
		COUNT(elsewhere, 1);
		return 1;
	}

	/* Who connects joins first, or did not opt in; except with data on the SYN, where the accepted end is there before. */
	struct key *ck = active ? &self : &peer;
	struct conn *c = bpf_map_lookup_elem(&conns, ck);
	if (!active && !tp->fastopen_rsk && !(c && find_peer(st, c))) {
		st->fallbacks[NO_PEER]++;
		COUNT(one_sided, 1);
		return 1;
	}

	/* One of two sockets with the same key joins: there is no telling whom redirected bytes were for otherwise. */
	if (bpf_sock_hash_update(ctx, &sockets, &self, BPF_NOEXIST)) {
		st->fallbacks[REFUSED]++;
		COUNT(refused, 1);
		return 1;
	}
	st->joined = st->within = 1;
	COUNT(sockets, 1);
	if (!c) {
		struct conn none = {};
		bpf_map_update_elem(&conns, ck, &none, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&conns, ck);
		if (!c)
			return 1;
	}
	if (active) { /* The other end cannot have found this one yet. */
		WRITE_ONCE(c->stream, 0);
		WRITE_ONCE(c->turn, 0);
	}
	struct end *e = &c->ends[active ? 0 : 1];
	WRITE_ONCE(e->cookie, 0);
	WRITE_ONCE(e->sk, st->self.sk);
	WRITE_ONCE(e->snd, st->self.snd);
	WRITE_ONCE(e->rcv, st->self.rcv);
	WRITE_ONCE(e->cookie, st->self.cookie);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTT_CB_FLAG);
	return 1;
}

/*
 * Takes a socket out of the map, so that its sends are those of TCP alone: if its connection carries a stream, if the other end
 * did not opt in, and once the accelerator is switched off. It runs when what was sent over TCP is acknowledged, under the lock
 * of the socket. The proof that no byte is lost with its queue:
 *
 *  - Each send holds a reference of its own psock from before it looks at conn.stream until it is over, also while it has
 *    let go of the lock to redirect.
 *  - Who leaves has only the reference of the map: none of its own sends is about to redirect, and none will, as it has seen
 *    conn.stream. So if the other end has left before, nothing comes from it.
 *  - If the other end is in the map and has only that reference, all its sends that may have redirected something have ended,
 *    and those to come will see conn.stream.
 *  - What they redirected is then in the queue, or read; and the queue is empty.
 */
static inline int leave(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u32 zero = 0;
	struct state *st = bpf_sk_storage_get(&states, sk, 0, 0);
	struct settings *set = bpf_map_lookup_elem(&setting, &zero);
	struct sock *own = (struct sock *)bpf_skc_to_tcp_sock(sk);
	if (!st || !set || !own)
		return 1;
	struct sk_psock *mine = psock(own->sk_user_data);
	if (!mine)
		return 1;
	struct conn *c = conn_of(st);
	if (!c)
		return 1;
	if (!st->peer_sk && !find_peer(st, c)) {
		/* The other end acknowledges data, so it has joined or never will: nobody knows this one. */
		st->streams = 1;
		goto out;
	}
	if (!st->streams) {
		if (!set->off && !READ_ONCE(c->stream))
			return 1;
		WRITE_ONCE(c->stream, 1);
		st->streams = 1;
	}
	if (!is_stream(c) || references(mine) != 1 || !peer_lives(st))
		return 1;
	struct sk_psock *theirs = psock(PEER(st, struct sock, sk_user_data));
	if ((theirs && references(theirs) != 1) || !peer_lives(st))
		return 1;
	is_stream(c); /* The queue as it was when that psock was let go of, or later. */
	if (queued(mine))
		return 1;
out:;
	struct key self;
	turn(&self, &st->peer);
	if (!bpf_map_delete_elem(&sockets, &self)) {
		st->within = 0;
		COUNT(left, 1);
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_RTT_CB_FLAG);
	return 1;
}

/* Sockets that opted in join when they are connected. */
SEC("sockops")
int zerohop_event(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		return join(ctx, sk, 1);
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		return join(ctx, sk, 0);
	case BPF_SOCK_OPS_RTT_CB:
		return leave(ctx, sk);
	}
	return 1;
}

/* Ends redirection in both directions for good. */
static inline void be_stream(struct state *st, struct conn *c)
{
	COUNT(streams, 1);
	WRITE_ONCE(c->stream, 1);
	st->streams = 1;
}

/* Sends take TCP for a while, and its flow control. */
static inline void hold(struct state *st, struct conn *c, struct settings *set)
{
	enum { FIRST = 16, FORGET = 4096 };
	if (st->since >= FORGET)
		st->penalty = 0;
	st->since = 0;
	if (st->penalty >= set->hold && set->stream_messages) {
		be_stream(st, c);
		return;
	}
	st->penalty = st->penalty ? st->penalty * 2 : FIRST;
	if (st->penalty > set->hold)
		st->penalty = set->hold;
	st->hold = st->penalty;
}

/* Decides whether a message may be redirected: if there is no reason against it. */
static inline enum reason decide(struct sk_msg_md *ctx, struct bpf_sock *sk, struct state *st)
{
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&setting, &zero);
	if (!set || set->off) {
		COUNT(off, 1);
		return OFF;
	}
	if (st->streams) {
		COUNT(stream, 1);
		return STREAM;
	}
	struct conn *c = conn_of(st);
	if (!c) {
		COUNT(no_peer, 1);
		return NO_PEER;
	}
	if (!st->peer_sk && !find_peer(st, c)) {
		COUNT(no_peer, 1);
		return NO_PEER;
	}
	if (is_stream(c)) { /* After this send was counted in the references of the psock: see leave. */
		st->streams = 1;
		COUNT(stream, 1);
		return STREAM;
	}
	/* An entry that made room may be that of another connection by now, and its flag, too. */
	if (READ_ONCE(c->ends[st->side ? 1 : 0].cookie) != st->self.cookie) {
		COUNT(no_peer, 1);
		return NO_PEER;
	}

	if (c->turn != st->side) {
		WRITE_ONCE(c->turn, st->side);
		st->run_bytes = st->run_messages = 0;
	}
	st->run_bytes += ctx->size;
	st->run_messages++;
	if (set->stream_messages && (st->run_bytes > set->stream_bytes || st->run_messages > set->stream_messages)) {
		be_stream(st, c);
		return STREAM;
	}
	if (st->hold) {
		st->hold--;
		COUNT(held, 1);
		return FULL;
	}
	if (!peer_lives(st) || PEER(st, struct sock, __sk_common.skc_state) != TCP_ESTABLISHED) {
		COUNT(no_peer, 1);
		return NO_PEER;
	}
	if (st->path == TCP) {
		struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
		if (!tp)
			return UNREAD;
		__u32 written = tp->write_seq;
		if (tp->bytes_sent || written != tp->snd_nxt) {
			if (PEER(st, struct tcp_sock, copied_seq) != written || may_wait(st) || !peer_lives(st)) {
				COUNT(unread, 1);
				return UNREAD;
			}
			COUNT(returned, 1);
		}
	}
	__u32 n = queued(psock(PEER(st, struct sock, sk_user_data)));
	if (!n)
		st->messages = 0;
	if (n >= set->limit || st->messages >= set->messages || n + ctx->size > room(st)) {
		COUNT(full, 1);
		hold(st, c, set);
		return FULL;
	}
	return NONE;
}

SEC("sk_msg")
int zerohop_send(struct sk_msg_md *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return SK_PASS;
	struct state *st = bpf_sk_storage_get(&states, sk, 0, 0);
	if (!st)
		return SK_PASS;
	__u32 size = ctx->size;
	enum reason reason = decide(ctx, sk, st);
	if (reason == NONE && bpf_msg_redirect_hash(ctx, &sockets, &st->peer, BPF_F_INGRESS) != SK_PASS) {
		COUNT(no_peer, 1);
		reason = NO_PEER;
	}
	__u32 zero = 0;
	struct counters *count = bpf_map_lookup_elem(&counts, &zero);
	if (reason < REASONS) {
		st->path = TCP;
		if (!st->fell)
			st->fallbacks[reason]++;
		st->fell = 1;
		if (count) {
			count->tcp_messages++;
			count->tcp_bytes += size;
		}
		return SK_PASS;
	}
	st->path = REDIRECT;
	st->fell = 0;
	st->redirected += size;
	st->messages++;
	st->since++;
	if (count) {
		count->redirected_messages++;
		count->redirected_bytes += size;
		count->accelerated += !st->accelerated;
		st->accelerated = 1;
	}
	return SK_PASS;
}
