/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What accel.c needs to know of the kernel, and no more: compiling it takes clang alone, and gives the same object
 * wherever it is compiled.
 *
 * The first part is stable: numbers, helpers and contexts of the kernel's interface for programs. The second part is not: of the
 * kernel's own structures it has the fields that are read. Where they lie is found out when the program is loaded.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef _Bool bool;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define inline __inline__ __attribute__((always_inline))

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ntohl(x) __builtin_bswap32(x)
#else
#define ntohl(x) (x)
#endif
#define htonl(x) ntohl(x)

enum { AF_INET = 2, AF_INET6 = 10, IPPROTO_TCP = 6, TCP_ESTABLISHED = 1, TCP_CLOSE_WAIT = 8 };
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_INGRESS = 1, BPF_F_NO_PREALLOC = 1, BPF_SK_STORAGE_GET_F_CREATE = 1, BPF_F_CLONE = 1 << 9 };
enum { SK_DROP, SK_PASS };
enum { BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5, BPF_SOCK_OPS_RTT_CB = 12 };
enum { BPF_SOCK_OPS_RTT_CB_FLAG = 1 << 3 };
enum { SOCK_RCVBUF_LOCK = 2 };
enum { O_NONBLOCK = 04000 }; /* Where it is another number, as on MIPS, no file has this one. */
/* What __builtin_preserve_field_info tells. */
enum { FIELD_BYTE_OFFSET = 0, FIELD_BYTE_SIZE = 1, FIELD_LSHIFT_U64 = 4, FIELD_RSHIFT_U64 = 5 };
enum {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_SOCKHASH = 18,
	BPF_MAP_TYPE_SK_STORAGE = 24,
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
};

struct bpf_sockopt {
	union { struct bpf_sock *sk; __u64 : 64; };
	union { void *optval; __u64 : 64; };
	union { void *optval_end; __u64 : 64; };
	__s32 level;
	__s32 optname;
	__s32 optlen;
	__s32 retval;
};

struct bpf_sock_ops {
	__u32 op;
	__u32 args[4];
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port; /* big endian */
	__u32 local_port;
	__u32 is_fullsock;
	__u32 snd_cwnd;
	__u32 srtt_us;
	__u32 bpf_sock_ops_cb_flags;
	__u32 state;
	__u32 rtt_min;
	__u32 snd_ssthresh;
	__u32 rcv_nxt;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 mss_cache;
	__u32 ecn_flags;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u32 packets_out;
	__u32 retrans_out;
	__u32 total_retrans;
	__u32 segs_in;
	__u32 data_segs_in;
	__u32 segs_out;
	__u32 data_segs_out;
	__u32 lost_out;
	__u32 sacked_out;
	__u32 sk_txhash;
	__u64 bytes_received;
	__u64 bytes_acked;
	union { struct bpf_sock *sk; __u64 : 64; };
};

struct sk_msg_md {
	union { void *data; __u64 : 64; };
	union { void *data_end; __u64 : 64; };
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 size;
	union { struct bpf_sock *sk; __u64 : 64; };
};

struct tcp_sock;

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u64 (*const bpf_get_socket_cookie)(void *ctx) = (void *)46;
static long (*const bpf_sock_ops_cb_flags_set)(struct bpf_sock_ops *ctx, int flags) = (void *)59;
static long (*const bpf_sock_hash_update)(struct bpf_sock_ops *ctx, void *map, void *key, __u64 flags) = (void *)70;
static long (*const bpf_msg_redirect_hash)(struct sk_msg_md *ctx, void *map, void *key, __u64 flags) = (void *)71;
static void *(*const bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) = (void *)107;
static long (*const bpf_probe_read_kernel)(void *dst, __u32 size, const void *from) = (void *)113;
static __u64 (*const bpf_get_netns_cookie)(void *ctx) = (void *)122;
static struct tcp_sock *(*const bpf_skc_to_tcp_sock)(void *sk) = (void *)137;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sock_common {
	volatile __u8 skc_state;
	struct { __u64 counter; } skc_cookie;
};

struct sock {
	struct sock_common __sk_common;
	void *sk_user_data;
	void *sk_socket;
	__u8 sk_userlocks : 4; /* of some versions; a byte in others: see FIELD */
	__s32 sk_rcvbuf;
};

struct socket {
	void *file;
};

struct file {
	__u32 f_flags;
};

struct tcp_sock {
	__u32 copied_seq;
	__u32 write_seq;
	__u32 snd_nxt;
	__u32 snd_una;
	__u64 bytes_sent;
	__u64 bytes_acked;
	void *fastopen_rsk;
};

struct sk_psock {
	__u32 msg_tot_len;
	struct { __s32 refs; } refcnt;
};

#pragma clang attribute pop
