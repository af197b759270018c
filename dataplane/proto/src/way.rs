//! How datagrams go to a peer, and how they came from it.

use std::net::SocketAddr;

use crate::LinkSlot;

/// From which socket of this host datagrams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// UDP, from the sending worker's own port.
    Lane,
    /// UDP, from the port on which this host listens.
    Listen,
    /// The TCP connection of this link and the sending worker ([`weft_wire::record`]).
    Stream(LinkSlot),
}

/// Where datagrams go, and from which port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Address and port at the peer, or of the address translation before it.
    pub to: SocketAddr,
    /// The socket here.
    pub via: Via,
}

impl Way {
    /// To where a peer listens.
    #[must_use]
    pub const fn direct(to: SocketAddr) -> Self {
        Self { to, via: Via::Lane }
    }

    /// Whether datagrams that came by UDP from there are from where datagrams go. A peer that listens sends
    /// from other ports; behind address translation those count of the lane whose worker this one sends to.
    #[inline]
    #[must_use]
    pub fn leads_to(&self, from: &SocketAddr, is_home: bool) -> bool {
        match self.via {
            Via::Listen if is_home => self.to == *from,
            Via::Lane | Via::Listen => self.to.ip() == from.ip(),
            Via::Stream(_) => false,
        }
    }
}

/// How datagrams came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// By UDP; this is the way back.
    Udp(Way),
    /// On a stream.
    Stream,
}

impl From<SocketAddr> for Source {
    /// From there to a worker's own port.
    fn from(from: SocketAddr) -> Self {
        Self::Udp(Way::direct(from))
    }
}
