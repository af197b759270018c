//! How long datagrams, packets and superpackets are on this host.

/// UDP overhead of the outer headers with the longer family: 40 (IPv6) + 8 (UDP).
const OUTER_OVERHEAD: u32 = 48;
/// The underlay's MTU when its interface does not say.
pub(super) const UNDERLAY_MTU: u32 = 1500;
/// The greatest that is used: no jumbo frames are longer, while loopback says 65,536.
const UNDERLAY_MTU_MAX: u32 = 9216;
/// Smallest MTU of an attachment: what IPv6 demands of every link (RFC 8200 section 5).
const TUN_MTU_MIN: u32 = 1280;

/// Sizes that follow from the underlay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) datagram_max: u16,
    pub(super) tun_mtu: u16,
    pub(super) gso_max_size: u32,
}

impl Sizes {
    pub(super) fn of_underlay(mtu: u32) -> Self {
        let overhead = u32::try_from(weft_wire::OVERHEAD).unwrap_or(0);
        let datagram_max =
            mtu.min(UNDERLAY_MTU_MAX).saturating_sub(OUTER_OVERHEAD).max(TUN_MTU_MIN + overhead);
        let tun_mtu = datagram_max - overhead;
        // So many datagrams fit one GSO send; a superpacket of so much payload, less room for
        // headers, is one send.
        let datagrams = u32::try_from(weft_buffers::BATCH_BYTES_MAX).unwrap_or(0) / datagram_max;
        let gso_max_size = datagrams * (tun_mtu - 64);
        let small = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        Self { datagram_max: small(datagram_max), tun_mtu: small(tun_mtu), gso_max_size }
    }
}
