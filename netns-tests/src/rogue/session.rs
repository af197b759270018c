//! A session of our own with a daemon: whatever a hostile peer with a valid certificate can seal.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};

use super::connect;
use crate::certificates::{Identity, sha256};
use crate::namespace::Namespace;
use crate::traffic::datagrams::socket;

const HELLO: u8 = 1;
const INDICES: u8 = 2;
const READY: u8 = 3;
const VERSION: u8 = 1;
const DATAGRAM_MAX: u16 = 1_472;
/// First byte of a sealed datagram: protocol version 1, data.
const DATA: u8 = 0x11;
const SECRET_LEN: usize = 32;

/// The twelve bytes at the end of every sealed payload. All fields are the peer's to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// virtio flags; 1 is `NEEDS_CSUM`.
    pub flags: u8,
    /// virtio segmentation type.
    pub gso_type: u8,
    /// Length of the inner header behind the payload.
    pub header_len: u16,
    /// Segment size.
    pub gso_size: u16,
    /// Where the checksum begins.
    pub csum_start: u16,
    /// Where it is stored from there.
    pub csum_offset: u16,
    /// Chunk index.
    pub chunk: u8,
    /// Chunk count.
    pub count: u8,
}

impl Metadata {
    /// A whole packet with nothing left to do.
    pub const PLAIN: Self = Self {
        flags: 0,
        gso_type: 0,
        header_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
        chunk: 0,
        count: 1,
    };

    fn encode(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..2].copy_from_slice(&[self.flags, self.gso_type]);
        let words = [self.header_len, self.gso_size, self.csum_start, self.csum_offset];
        for (field, word) in out[2..10].chunks_exact_mut(2).zip(words) {
            field.copy_from_slice(&word.to_be_bytes());
        }
        out[10..].copy_from_slice(&[self.chunk, self.count]);
        out
    }
}

/// An established session with one sending lane, in epoch 0.
pub struct Session {
    socket: UdpSocket,
    to: SocketAddr,
    /// The index that the daemon gave to our lane.
    pub index: u32,
    /// Counter of the next datagram.
    pub counter: u64,
    key: LessSafeKey,
    iv: [u8; 12],
    /// All that is secret about the session.
    pub secrets: Secrets,
}

/// What a session's secrecy rests on, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// Exported from TLS: all others follow from it.
    pub exported: Vec<u8>,
    /// Of the first epoch of every lane in either direction: the secret and the key. (The IV is a nonce.)
    pub lanes: Vec<[Vec<u8>; 2]>,
}

impl Secrets {
    /// Of one lane of ours and as many of the daemon's.
    fn derive(exported: &[u8; SECRET_LEN], theirs: u8) -> Result<Self> {
        let roles = std::iter::once((b'c', 0)).chain((0..theirs).map(|lane| (b's', lane)));
        let lanes = roles.map(|(role, lane)| {
            let secret: [u8; SECRET_LEN] = expand(exported, &[b"weft v1 lane", &[role, lane]])?;
            let key: [u8; 32] = expand(&secret, &[b"weft v1 key"])?;
            Ok([secret.to_vec(), key.to_vec()])
        });
        Ok(Self { exported: exported.to_vec(), lanes: lanes.collect::<Result<_>>()? })
    }
}

/// Names that both sides know, in the order of the exporter's context.
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    /// Environment id.
    pub environment: &'a str,
    /// This side's host id.
    pub client: &'a str,
    /// The daemon's host id.
    pub server: &'a str,
}

impl Session {
    /// Does the whole handshake with a daemon and opens a UDP socket inside `ns`.
    ///
    /// # Errors
    /// When the daemon refuses or does not keep to the protocol.
    pub fn open(
        ns: &Namespace,
        to: SocketAddr,
        server_name: &str,
        parties: Parties<'_>,
        identity: &Identity,
    ) -> Result<Self> {
        let mut stream = connect(ns, to, server_name, Some(identity))?;
        let (lanes, index) = exchange(&mut stream)?;
        let leaf = stream.conn.peer_certificates().and_then(|chain| chain.first());
        let server_hash = sha256(leaf.context("no server certificate")?);
        let mut context = u16::from(VERSION).to_be_bytes().to_vec();
        for name in [parties.environment, parties.client, parties.server] {
            context.push(u8::try_from(name.len())?);
            context.extend(name.as_bytes());
        }
        context.extend(identity.leaf_hash());
        context.extend(server_hash);
        let exported = stream.conn.export_keying_material(
            [0; SECRET_LEN],
            b"EXPORTER-weft-v1",
            Some(&context),
        )?;
        // Our only lane is number 0 and we are the client.
        let secrets = Secrets::derive(&exported, lanes)?;
        let [secret, key] = &secrets.lanes[0];
        let key = UnboundKey::new(&AES_256_GCM, key).ok().context("key")?;
        let any =
            SocketAddr::new(if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0; 16].into() }, 0);
        Ok(Self {
            socket: socket(ns, any)?,
            to,
            index,
            counter: 0,
            key: LessSafeKey::new(key),
            iv: expand(secret, &[b"weft v1 iv"])?,
            secrets,
        })
    }

    /// Seals `payload ‖ inner header ‖ metadata` under the next counter and the given index.
    ///
    /// # Errors
    /// When it is too long for a datagram.
    pub fn seal(
        &mut self,
        index: u32,
        payload: &[u8],
        inner_header: &[u8],
        metadata: Metadata,
    ) -> Result<Vec<u8>> {
        let mut body = [payload, inner_header, &metadata.encode()].concat();
        let length = u16::try_from(16 + body.len() + 16)?;
        let mut header = [0; 16];
        header[0] = DATA;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[4..8].copy_from_slice(&index.to_be_bytes());
        header[8..].copy_from_slice(&self.counter.to_be_bytes());
        let mut nonce = self.iv;
        for (n, c) in nonce[4..].iter_mut().zip(self.counter.to_be_bytes()) {
            *n ^= c;
        }
        self.counter += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body);
        sealed.ok().context("seal")?;
        Ok([&header[..], &body].concat())
    }

    /// Seals under our own index and sends.
    ///
    /// # Errors
    /// As [`Session::seal`], and when the network refuses it.
    pub fn send(&mut self, payload: &[u8], inner_header: &[u8], m: Metadata) -> Result<()> {
        let datagram = self.seal(self.index, payload, inner_header, m)?;
        self.send_raw(&datagram)
    }

    /// Sends bytes to the daemon's port as they are.
    ///
    /// # Errors
    /// When the network refuses it.
    pub fn send_raw(&self, datagram: &[u8]) -> Result<()> {
        self.socket.send_to(datagram, self.to)?;
        Ok(())
    }
}

/// All frames of a client; gives the daemon's lanes and its index for our one.
pub(super) fn exchange(stream: &mut (impl Read + Write)) -> Result<(u8, u32)> {
    say_hello(stream)?;
    let theirs = read_frame(stream, HELLO)?;
    let lanes = *theirs.first().context("empty hello")?;
    let mut indices = vec![lanes];
    for lane in 0..u32::from(lanes) {
        indices.extend((0x0000_1000 + lane).to_be_bytes());
    }
    write_frame(stream, INDICES, &indices)?;
    let theirs = read_frame(stream, INDICES)?;
    let index = theirs.get(1..5).context("no index for our lane")?;
    let index = u32::from_be_bytes(index.try_into()?);
    read_frame(stream, READY)?;
    Ok((lanes, index))
}

fn expand<const N: usize>(secret: &[u8], info: &[&[u8]]) -> Result<[u8; N]> {
    struct Len(usize);
    impl KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = [0; N];
    let prk = Prk::new_less_safe(HKDF_SHA256, secret);
    let filled = prk.expand(info, Len(N)).and_then(|okm| okm.fill(&mut out));
    filled.ok().context("HKDF")?;
    Ok(out)
}

/// The first frame of either side.
pub(super) fn say_hello(stream: &mut impl Write) -> Result<()> {
    let mut hello = vec![1, 1];
    hello.extend(DATAGRAM_MAX.to_be_bytes());
    hello.extend([0x5a; 16]);
    hello.extend(1_u32.to_be_bytes());
    write_frame(stream, HELLO, &hello)
}

fn write_frame(stream: &mut impl Write, kind: u8, body: &[u8]) -> Result<()> {
    let [high, low] = u16::try_from(body.len())?.to_be_bytes();
    stream.write_all(&[&[kind, VERSION, high, low], body].concat())?;
    Ok(stream.flush()?)
}

fn read_frame(stream: &mut impl Read, expected: u8) -> Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).context("no frame")?;
    let [kind, version, high, low] = head;
    ensure!(version == VERSION, "frame version {version}");
    if kind != expected {
        bail!("frame type {kind}, expected {expected}");
    }
    let mut body = vec![0; usize::from(u16::from_be_bytes([high, low]))];
    stream.read_exact(&mut body).context("cut frame")?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_has_its_layout() {
        let m =
            Metadata { gso_size: 0x0102, csum_offset: 16, chunk: 3, count: 4, ..Metadata::PLAIN };
        assert_eq!(m.encode(), [0, 0, 0, 0, 1, 2, 0, 0, 0, 16, 3, 4]);
    }

    #[test]
    fn frames_are_read_back() {
        let mut wire = Vec::new();
        write_frame(&mut wire, INDICES, &[1, 0, 0, 0, 9]).unwrap();
        assert_eq!(wire[..4], [INDICES, VERSION, 0, 5]);
        assert_eq!(read_frame(&mut &wire[..], INDICES).unwrap(), [1, 0, 0, 0, 9]);
        assert!(read_frame(&mut &wire[..], READY).is_err());
    }
}
