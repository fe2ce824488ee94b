// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * The accelerator of most samples, as a control: tests that cannot tell it from a safe one would prove nothing. Never use it.
 * It redirects all that it can, from the first moment on, and knows neither namespaces nor what is queued.
 */
#include "../bpf/kernel.h"

char naive_license[] SEC("license") = "GPL";

struct key {
	__u32 lip, rip, lport, rport;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct key);
	__type(value, __u64);
} sockets SEC(".maps");

SEC("cgroup/setsockopt")
int naive_opt_in(struct bpf_sockopt *ctx)
{
	if (ctx->level == 0x6c6f)
		ctx->optlen = -1;
	return 1;
}

SEC("sockops")
int naive_event(struct bpf_sock_ops *ctx)
{
	if (ctx->family != AF_INET ||
	    (ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB))
		return 1;
	struct key k = {ctx->local_ip4, ctx->remote_ip4, ctx->local_port, ntohl(ctx->remote_port)};
	bpf_sock_hash_update(ctx, &sockets, &k, BPF_ANY);
	return 1;
}

SEC("sk_msg")
int naive_send(struct sk_msg_md *ctx)
{
	struct key k = {ctx->remote_ip4, ctx->local_ip4, ntohl(ctx->remote_port), ctx->local_port};
	bpf_msg_redirect_hash(ctx, &sockets, &k, BPF_F_INGRESS);
	return SK_PASS;
}
