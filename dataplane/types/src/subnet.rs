//! Address ranges of environments.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Why a string is not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Not of the form `ADDRESS/LENGTH`.
    #[error("expected ADDRESS/LENGTH, for example 10.40.0.0/16 or fd40::/64")]
    Form,
    /// The prefix is longer than the address.
    #[error("prefix length {0} is out of range; expected 0 to {1}")]
    Length(u8, u8),
    /// Bits are set below the prefix.
    #[error("{0} has bits set below the prefix; expected {1}")]
    HostBits(IpAddr, Subnet),
}

/// A network address with its prefix length (RFC 4632, RFC 4291 section 2.3); no bits are set
/// below the prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet {
    address: IpAddr,
    prefix_len: u8,
}

impl Subnet {
    /// Makes a subnet of an address whose bits below the prefix are clear.
    ///
    /// # Errors
    /// [`SubnetError::Length`] or [`SubnetError::HostBits`].
    pub fn new(address: IpAddr, prefix_len: u8) -> Result<Self, SubnetError> {
        let max = if address.is_ipv4() { 32 } else { 128 };
        if prefix_len > max {
            return Err(SubnetError::Length(prefix_len, max));
        }
        let clean = Self { address: mask(address, prefix_len), prefix_len };
        if clean.address != address {
            return Err(SubnetError::HostBits(address, clean));
        }
        Ok(clean)
    }

    /// The network address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    #[must_use]
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }

    /// Whether `address` is of the same family and inside.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && mask(address, self.prefix_len) == self.address
    }

    /// The environment's own address in this subnet: the first after the network address. It
    /// answers inside the overlay and is never given to an attachment.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from(u32::from(a).saturating_add(1))),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(a).saturating_add(1))),
        }
    }

    /// The last address of an IPv4 subnet, which means *all hosts* (RFC 919); `None` for IPv6
    /// and for prefixes of 31 and 32 bits (RFC 3021).
    #[must_use]
    pub fn broadcast(&self) -> Option<IpAddr> {
        match self.address {
            IpAddr::V4(a) if self.prefix_len < 31 => {
                Some(IpAddr::V4(Ipv4Addr::from(u32::from(a) | u32::MAX >> self.prefix_len)))
            }
            _ => None,
        }
    }
}

fn mask(address: IpAddr, prefix_len: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(a) & keep))
        }
        IpAddr::V6(a) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix_len.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(a) & keep))
        }
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;
    fn from_str(s: &str) -> Result<Self, SubnetError> {
        let (address, length) = s.split_once('/').ok_or(SubnetError::Form)?;
        let address = address.parse().map_err(|_| SubnetError::Form)?;
        let length = length.parse().map_err(|_| SubnetError::Form)?;
        Self::new(address, length)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

#[cfg(feature = "serde")]
crate::serde_as_text!(Subnet);

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(s: &str) -> Subnet {
        s.parse().unwrap()
    }

    #[test]
    fn contains_its_own_family_only() {
        assert!(net("10.40.0.0/16").contains("10.40.255.1".parse().unwrap()));
        assert!(!net("10.40.0.0/16").contains("10.41.0.1".parse().unwrap()));
        assert!(!net("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(net("fd40::/64").contains("fd40::7".parse().unwrap()));
        assert!(!net("fd40::/64").contains("fd40:0:0:1::7".parse().unwrap()));
        assert!(net("10.0.0.1/32").contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!("10.0.0.0".parse::<Subnet>(), Err(SubnetError::Form));
        assert_eq!("10.0.0.0/33".parse::<Subnet>(), Err(SubnetError::Length(33, 32)));
        assert_eq!(
            "10.0.0.1/8".parse::<Subnet>(),
            Err(SubnetError::HostBits("10.0.0.1".parse().unwrap(), net("10.0.0.0/8")))
        );
    }

    #[test]
    fn gateway_and_broadcast() {
        assert_eq!(net("10.40.0.0/16").gateway(), "10.40.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(net("fd40::/64").gateway(), "fd40::1".parse::<IpAddr>().unwrap());
        assert_eq!(net("10.40.0.0/16").broadcast(), Some("10.40.255.255".parse().unwrap()));
        assert_eq!(net("10.40.0.0/31").broadcast(), None);
        assert_eq!(net("fd40::/64").broadcast(), None);
    }
}
