//! One rtnetlink conversation: a request, and its acknowledgement or dump.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::syscall::check;

/// The kernel answers at once; it may have to wait for its own lock.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel fills dumps by the page, at most 32 KiB; larger answers are an error, not cut off.
const ANSWER_LEN_MAX: usize = 64 * 1024;

/// A netlink socket in the namespace of the thread that opened it.
pub(super) struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(ANSWER_LEN_MAX) })
    }

    /// Sends `message` and waits for its acknowledgement (`flags` include `NLM_F_ACK`).
    pub(super) fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.converse(message, flags, |_| {})
    }

    /// Sends the query `message` and hands each answer to `each`.
    pub(super) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.converse(message, NLM_F_DUMP, each)
    }

    fn converse(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.send(message, flags)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            self.wait_readable(deadline)?;
            self.buffer.clear();
            let received = self.socket.recv(&mut self.buffer, libc::MSG_TRUNC)?;
            if received > self.buffer.len() {
                return Err(io::Error::other("netlink answer is longer than 64 KiB"));
            }
            if read_answers(&self.buffer, self.sequence, &mut each)? {
                return Ok(());
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let sent = self.socket.send(&bytes, 0)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn wait_readable(&self, deadline: Instant) -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut wait = libc::pollfd {
                fd: self.socket.as_fd().as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
            // SAFETY: the pointer and the count describe one live `pollfd`.
            match check(unsafe { libc::poll(&raw mut wait, 1, millis) }) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads one datagram of the kernel and hands each answer to the request `sequence` over; whether
/// it was the last.
///
/// # Errors
/// What the kernel answers instead, or when the datagram is malformed.
pub fn read_answers(
    datagram: &[u8],
    sequence: u32,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let answer =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
        let len = (answer.header.length as usize).next_multiple_of(4).min(rest.len());
        rest = &rest[len..];
        if answer.header.sequence_number != sequence {
            continue;
        }
        match answer.payload {
            // Errors are negative numbers.
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(io::Error::from_raw_os_error(error.raw_code().saturating_neg()));
            }
            NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::InnerMessage(inner) => each(inner),
            _ => {}
        }
    }
    Ok(false)
}
