//! Every bound, with what it rests on.

use std::time::Duration;

/// Most services of an environment.
pub const SERVICES_MAX: usize = 4_096;
/// Most slots of an environment. With names and indexes some 300 B each, so at most 5 MiB.
pub const SLOTS_MAX: usize = 16_384;
/// Most aliases of an environment, one for each attachment on a host.
pub const ALIASES_MAX: usize = 4_096;
/// Most addresses of a slot: one or two of each family.
pub const ADDRESSES_PER_SLOT_MAX: usize = 4;
/// Most roles of a slot.
pub const ROLES_PER_SLOT_MAX: usize = 8;
/// Most named ports of a service.
pub const PORTS_PER_SERVICE_MAX: usize = 32;

/// How long an address may be remembered. A failover is over for everybody after this time and the time that
/// the registry takes, and an address is quarantined a hundred times longer after its release. A resolver that
/// remembers asks once in it, however many containers are behind it.
pub const ADDRESS_TTL_SECONDS: u32 = 5;
/// How long *there is none* may be remembered (RFC 2308 section 5: TTL of the SOA, and its last field): less
/// than an address, since a service that has just started is waited for.
pub const NEGATIVE_TTL_SECONDS: u32 = 2;
/// How long the zone's own records may be remembered. They never change while the environment lives.
pub const APEX_TTL_SECONDS: u32 = 60;

/// Most addresses in an answer. Eight IPv6 addresses (28 B each), the longest question (259 B), header and OPT
/// (23 B) are 506 B: they fit into the 512 B that a resolver without EDNS takes (RFC 1035 section 4.2.1), so an
/// answer with addresses is never cut. Which eight changes from answer to answer.
pub const ADDRESSES_ANSWERED_MAX: usize = 8;
/// Most SRV records in an answer: at most 98 B each, so 6 KiB.
pub const SRV_ANSWERED_MAX: usize = 64;
/// Longest answer over UDP, bytes: fits the smallest IPv6 path without fragments (1,280 B less headers), what
/// resolvers agreed on (DNS flag day 2020).
pub const UDP_ANSWER_LEN_MAX: usize = 1_232;
/// Longest answer over UDP to a resolver without EDNS, bytes (RFC 1035 section 4.2.1).
pub(crate) const PLAIN_ANSWER_LEN_MAX: usize = 512;
/// Longest answer over TCP, bytes. Ours need 8 KiB; more is for forwarded ones.
pub const TCP_ANSWER_LEN_MAX: usize = 16_384;
/// Longest query that is read, bytes: the longest question takes 271 with its header, options some hundred.
pub const QUERY_LEN_MAX: usize = 1_024;

/// Most queries that wait for answers from outside, in one environment. The shell has a socket for each.
pub const FORWARDS_MAX: usize = 256;
/// Most of them of one source, so that no container can take them all.
pub const FORWARDS_PER_SOURCE_MAX: usize = 32;
/// How long one server outside has to answer; then the next is asked, once each. Below the 5 s after which
/// resolvers in containers give up (glibc, musl), for two servers.
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Most servers outside.
pub const UPSTREAMS_MAX: usize = 4;

/// Most TCP connections of an environment. Each takes at most 24 KiB: buffers of 2 and 4, and what is left of an answer.
pub const CONNECTIONS_MAX: usize = 64;
/// Most of them of one source. A resolver needs one.
pub const CONNECTIONS_PER_SOURCE_MAX: usize = 4;
/// A connection without a whole new query for so long is closed (RFC 7766 section 6.2.3 wants a few seconds).
pub const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10);
/// Most packets that wait to be polled; later ones are dropped. Callers poll after every packet.
pub const PACKETS_QUEUED_MAX: usize = 256;
