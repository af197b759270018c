//! Socket addresses in the kernel's form, without allocation.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An IPv4 or IPv6 `sockaddr`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<RawAddress>() == 28);
    // The family sits at one place in both, so it may be read through either.
    assert!(offset_of!(libc::sockaddr_in, sin_family) == 0);
    assert!(offset_of!(libc::sockaddr_in6, sin6_family) == 0);
};

impl RawAddress {
    /// Bytes that the kernel may write.
    pub(super) const CAPACITY: libc::socklen_t = size_of::<Self>() as libc::socklen_t;

    /// An address of no family.
    // SAFETY: both members are plain old data for which all zeros is a valid value.
    pub(crate) const UNSPECIFIED: Self = unsafe { std::mem::zeroed() };

    #[inline]
    pub(super) fn encode(addr: &SocketAddr) -> Self {
        let mut raw = Self::UNSPECIFIED;
        match addr {
            SocketAddr::V4(addr) => {
                raw.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*addr.ip()).to_be() },
                    sin_zero: [0; 8],
                };
            }
            SocketAddr::V6(addr) => {
                raw.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_scope_id: addr.scope_id(),
                };
            }
        }
        raw
    }

    /// What the kernel wrote into a buffer: as many bytes as there are and fit.
    #[inline]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut raw = Self::UNSPECIFIED;
        let len = bytes.len().min(size_of::<Self>());
        // SAFETY: source and destination are distinct and have at least `len` bytes, and any bytes
        // are a valid address.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut raw).cast(), len) };
        raw
    }

    /// The address, or `None` for a family other than IPv4 and IPv6.
    #[inline]
    pub(crate) fn decode(&self) -> Option<SocketAddr> {
        match c_int_family(self.family()) {
            libc::AF_INET => {
                // SAFETY: all bytes of the union are initialised and any bits are a valid
                // `sockaddr_in`; the family says that this is the member that was written.
                let v4 = unsafe { self.v4 };
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above, for `sockaddr_in6`.
                let v6 = unsafe { self.v6 };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    #[inline]
    pub(super) fn is_ipv6(&self) -> bool {
        c_int_family(self.family()) == libc::AF_INET6
    }

    /// Length for the kernel of an encoded address.
    #[inline]
    pub(super) fn len(&self) -> libc::socklen_t {
        if self.is_ipv6() {
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        } else {
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const *self).cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut *self).cast()
    }

    fn family(&self) -> libc::sa_family_t {
        // SAFETY: all bytes of the union are initialised (it starts as zeros) and the family is at
        // offset 0 of both members.
        unsafe { self.v4.sin_family }
    }
}

fn c_int_family(family: libc::sa_family_t) -> libc::c_int {
    libc::c_int::from(family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.0.2.7:65535", "0.0.0.0:0", "[2001:db8::1]:443", "[::]:1"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::encode(&addr).decode(), Some(addr));
        }
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 3).into();
        assert_eq!(RawAddress::encode(&scoped).decode(), Some(scoped));
        assert_eq!(RawAddress::UNSPECIFIED.decode(), None);
    }
}
