// Package dns finds services in DNS: by A and AAAA records with a port that is known, or by SRV records, which tell the
// port, weight and priority too.
//
//	mesh, err := zerohop.New(zerohop.Config{Resolver: dns.Resolver{
//		Name: "_http._tcp.{service}.default.svc.cluster.local",
//		SRV:  true,
//	}})
//
// A [Resolver] asks again when the time to live of an answer is over, without waiting for a failure. It speaks to the
// servers itself, because the resolvers of operating systems do not tell how long an answer is good for; where no
// server is known (Windows), it asks the operating system every ten seconds.
//
// What becomes of the records:
//
//	A, AAAA       address; the port is Resolver.Port
//	SRV port      port
//	SRV target    address, by the records that come along or by questions of its own; Meta["dns-target"]
//	SRV priority  Priority: the lowest number is level 0, the next one level 1, however far they are apart
//	SRV weight    Weight, divided among the addresses of a target. 0 counts as 1, which is the share that the
//	              algorithm of RFC 2782 gives it beside others
//	SRV "."       no endpoints: the service is decidedly not available
//
// DNS knows no zones, health or further attributes, and one answer holds 64 KiB: about 4,000 addresses or 2,000 SRV records.
// Use another source if you need more, or changes within less than a second.
package dns
