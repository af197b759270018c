//! How much a configuration may hold.

/// Longest configuration file in bytes: [`ENVIRONMENTS_MAX`] environments with 250 peers of 5
/// addresses each are about 40 MB; a file beyond that is a mistake.
pub const FILE_LEN_MAX: u64 = 64 << 20;
/// Most environments on one host.
pub const ENVIRONMENTS_MAX: usize = 1_024;
/// Most attachments of one environment on one host. Each holds one descriptor per worker: with 64
/// workers, 64 full environments reach 2^20, the kernel's default `nr_open`.
pub const ATTACHMENTS_PER_ENVIRONMENT_MAX: usize = 256;
/// Most peers of one environment.
pub const PEERS_PER_ENVIRONMENT_MAX: usize = 1_024;
/// Most overlay addresses at one peer: 64 environments' worth of attachments.
pub const ADDRESSES_PER_PEER_MAX: usize = 16_384;

/// Longest interface name in bytes: `IFNAMSIZ` less the closing zero.
pub const INTERFACE_LEN_MAX: usize = 15;
/// Longest path of the API's socket in bytes: `sun_path` less the closing zero (unix(7)).
pub const SOCKET_PATH_LEN_MAX: usize = 107;

/// Longest name of a user in bytes, as of useradd(8).
pub const USER_LEN_MAX: usize = 32;

/// Longest IPv4 prefix of a subnet: network, gateway, one container, broadcast.
pub const SUBNET_PREFIX_MAX: u8 = 30;
/// Longest IPv6 prefix of a subnet: subnet-router anycast, gateway, two containers.
pub const SUBNET6_PREFIX_MAX: u8 = 126;

/// Largest weight of an environment or attachment, as of Linux's `cpu.weight`.
pub const WEIGHT_MAX: u64 = 10_000;
/// The weight of who is given none.
pub const WEIGHT_DEFAULT: u16 = 100;
/// Largest limit on what an environment or attachment sends, in Mbit/s: more than any interface.
pub const EGRESS_MBIT_LIMIT: u64 = 1_000_000;

/// Longest and shortest time without traffic after which a peer is asked, seconds.
pub const KEEPALIVE_SECONDS_LIMITS: (u64, u64) = (1, 3_600);

/// Most datagrams under one key, and the default: the bound of the protocol for datagrams of up
/// to 2^11 bytes.
pub const EPOCH_DATAGRAMS_LIMIT: u64 = 1 << 28;
/// Fewest datagrams under one key: one full superpacket.
pub const EPOCH_DATAGRAMS_MIN: u64 = 64;
/// Longest use of one key in seconds, and the default.
pub const EPOCH_SECONDS_LIMIT: u64 = 120;
/// Longest time between handshakes in seconds, and the default.
pub const REHANDSHAKE_SECONDS_LIMIT: u64 = 3_600;
/// Shortest time between handshakes in seconds.
pub const REHANDSHAKE_SECONDS_MIN: u64 = 5;
/// Most places where a peer listens besides its endpoint.
pub const ALTERNATIVES_MAX: usize = 7;
