//! Hearing of changes (`rtnetlink(7)`, multicast groups).

use std::io;

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

/// Only whether there was something counts: what does not fit is cut off.
const BUFFER_LEN: usize = 4096;

/// Says when addresses come or go in the namespace of the thread that opened it.
pub struct AddressWatch(Socket);

impl AddressWatch {
    /// Listens from now on.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in [libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR] {
            socket.add_membership(group)?;
        }
        Ok(Self(socket))
    }

    /// Waits for the next change.
    ///
    /// # Errors
    /// Not for an open socket.
    pub fn wait(&self) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(BUFFER_LEN);
        match self.0.recv(&mut buffer, 0) {
            Ok(_) => Ok(()),
            // More was said than the kernel keeps.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
