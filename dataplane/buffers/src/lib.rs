//! The batch in which datagrams wait for their send.

use std::net::SocketAddr;

/// Most datagrams in one GSO send; `UDP_MAX_SEGMENTS` was 64 before Linux 6.9.
pub const BATCH_SEGMENTS_MAX: usize = 64;
/// Most bytes in one GSO send: what a UDP datagram over IPv4 carries (65,535 − 20 − 8).
pub const BATCH_BYTES_MAX: usize = 65_507;

/// Datagrams that one `sendmsg` with `UDP_SEGMENT` takes: all to one address with the same ECN
/// bits, all of one length but the last, which may be shorter.
pub struct Batch {
    buffer: Box<[u8]>,
    len: usize,
    count: usize,
    segment: usize,
    /// A shorter datagram was added: nothing may follow it.
    is_closed: bool,
    to: Option<SocketAddr>,
    ecn: u8,
}

/// The content of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub to: SocketAddr,
    /// ECN bits of the outer header.
    pub ecn: u8,
    /// Length of every datagram but the last.
    pub segment: usize,
    /// How many datagrams.
    pub count: usize,
    /// The datagrams, one behind the other.
    pub data: &'a [u8],
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            buffer: vec![0; BATCH_BYTES_MAX].into(),
            len: 0,
            count: 0,
            segment: 0,
            is_closed: false,
            to: None,
            ecn: 0,
        }
    }
}

impl Batch {
    /// Whether a datagram of `len` bytes can join what is there. Always true for an empty batch
    /// and a datagram of at most [`BATCH_BYTES_MAX`] bytes.
    #[inline]
    #[must_use]
    pub fn accepts(&self, to: SocketAddr, ecn: u8, len: usize) -> bool {
        if self.count == 0 {
            return len <= BATCH_BYTES_MAX;
        }
        !self.is_closed
            && len <= self.segment
            && self.count < BATCH_SEGMENTS_MAX
            && self.len + len <= BATCH_BYTES_MAX
            && self.to == Some(to)
            && self.ecn == ecn
    }

    /// Adds a datagram and gives its bytes to be filled.
    ///
    /// # Panics
    /// When the batch does not [accept](Self::accepts) it.
    #[inline]
    pub fn push(&mut self, to: SocketAddr, ecn: u8, len: usize) -> &mut [u8] {
        assert!(self.accepts(to, ecn, len), "asked before");
        if self.count == 0 {
            self.segment = len;
            self.to = Some(to);
            self.ecn = ecn;
        }
        self.is_closed = len < self.segment;
        let at = self.len;
        self.len += len;
        self.count += 1;
        &mut self.buffer[at..self.len]
    }

    /// What is to be sent, if anything.
    #[must_use]
    pub fn content(&self) -> Option<Outgoing<'_>> {
        let to = self.to?;
        (self.count > 0).then(|| Outgoing {
            to,
            ecn: self.ecn,
            segment: self.segment,
            count: self.count,
            data: &self.buffer[..self.len],
        })
    }

    /// Empties the batch.
    pub fn clear(&mut self) {
        self.len = 0;
        self.count = 0;
        self.is_closed = false;
        self.to = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn takes_equal_lengths_and_one_shorter_at_the_end() {
        let mut batch = Batch::default();
        assert!(batch.content().is_none());
        batch.push(to(1), 0, 100).fill(1);
        batch.push(to(1), 0, 100).fill(2);
        assert!(!batch.accepts(to(1), 0, 101));
        assert!(!batch.accepts(to(2), 0, 100));
        assert!(!batch.accepts(to(1), 3, 100));
        batch.push(to(1), 0, 99).fill(3);
        assert!(!batch.accepts(to(1), 0, 99));
        let out = batch.content().unwrap();
        assert_eq!((out.segment, out.count, out.data.len()), (100, 3, 299));
        assert_eq!((out.data[100], out.data[298]), (2, 3));
        batch.clear();
        assert!(batch.content().is_none());
        assert!(batch.accepts(to(2), 3, 101));
    }

    #[test]
    fn is_bounded_by_the_kernel_s_limits() {
        let mut batch = Batch::default();
        let mut count = 0;
        while batch.accepts(to(1), 0, 44) {
            batch.push(to(1), 0, 44);
            count += 1;
        }
        assert_eq!(count, BATCH_SEGMENTS_MAX);
        batch.clear();
        let mut bytes = 0;
        while batch.accepts(to(1), 0, 1452) {
            bytes += batch.push(to(1), 0, 1452).len();
        }
        assert_eq!(bytes, 65_507 / 1452 * 1452);
        assert!(!batch.accepts(to(1), 0, BATCH_BYTES_MAX + 1));
    }
}
