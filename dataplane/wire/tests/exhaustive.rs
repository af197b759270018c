//! Every value of every one and every two bytes of what is fixed on the wire, against a second reading
//! of `docs/protocol.md` that shares nothing with the code.
#![expect(clippy::unwrap_used, reason = "a test")]

use weft_types::{Counter, Epoch, ReceiverIndex};
use weft_wire::{
    Control, ControlError, Header, HeaderError, Kind, METADATA_LEN, Metadata, MetadataError,
    VIRTIO_HEADER_LEN, VirtioHeader,
    hello::{Frame, FrameError, Hello},
};

/// Big endian, byte by byte.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number * 256 + u64::from(*byte))
}

fn short(bytes: &[u8]) -> u16 {
    u16::try_from(number(bytes)).unwrap()
}

/// Calls `check` with `base` and with all that differ from it in one or two of the first `len` bytes;
/// says how many they were.
fn with_two_bytes_changed(base: &[u8], len: usize, mut check: impl FnMut(&[u8])) -> usize {
    let mut bytes = base.to_vec();
    let mut count = 0;
    for first in 0..len {
        for second in first + 1..len {
            for values in 0..=u16::MAX {
                [bytes[first], bytes[second]] = values.to_be_bytes();
                check(&bytes);
                count += 1;
            }
            (bytes[first], bytes[second]) = (base[first], base[second]);
        }
    }
    count
}

fn header_as_written(bytes: &[u8]) -> Result<Header, HeaderError> {
    let kind = match bytes[0] {
        0x11 => Kind::Data,
        0x12 => Kind::Control,
        _ => return Err(HeaderError::Kind),
    };
    if number(&bytes[2..4]) != bytes.len() as u64 {
        return Err(HeaderError::Length);
    }
    Ok(Header {
        kind,
        epoch: Epoch(bytes[1]),
        length: short(&bytes[2..4]),
        index: ReceiverIndex(u32::try_from(number(&bytes[4..8])).unwrap()),
        counter: Counter(number(&bytes[8..16])),
    })
}

#[test]
fn headers_with_any_two_bytes_changed_are_read_as_they_are_written() {
    for (first, len) in [(0x11, 44), (0x12, 300), (0x22, 44)] {
        let mut base = vec![0xa5; len];
        base[0] = first;
        base[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        let count = with_two_bytes_changed(&base, 16, |bytes| {
            let read = Header::decode(bytes);
            assert_eq!(read, header_as_written(bytes), "{:02x?}", &bytes[..16]);
            if let Ok(header) = read {
                assert_eq!(header.encode(), bytes[..16]);
            }
        });
        assert_eq!(count, 120 << 16);
    }
}

#[test]
fn datagrams_of_every_length_are_read_if_they_say_so() {
    let mut datagram = vec![0; usize::from(u16::MAX) + 1];
    datagram[0] = 0x11;
    for len in 0..=datagram.len() {
        let expected = match len {
            0..44 => Err(HeaderError::Short),
            44..=65_507 => Ok(u16::try_from(len).unwrap()),
            _ => Err(HeaderError::Long),
        };
        datagram[2..4].copy_from_slice(&u16::try_from(len).unwrap_or(0).to_be_bytes());
        assert_eq!(Header::decode(&datagram[..len]).map(|header| header.length), expected);
        if expected.is_ok() {
            datagram[3] ^= 1;
            assert_eq!(Header::decode(&datagram[..len]), Err(HeaderError::Length));
        }
    }
}

fn metadata_as_written(bytes: &[u8; METADATA_LEN]) -> Result<Metadata, MetadataError> {
    let [flags, gso_type, .., chunk, count] = *bytes;
    // Segmentation of TCP over IPv4 and IPv6, and of UDP; each also with the ECN bit.
    let known = [0x00, 0x01, 0x04, 0x05, 0x80, 0x81, 0x84, 0x85];
    if ![0, 1].contains(&flags) || !known.contains(&gso_type) {
        return Err(MetadataError::Unknown);
    }
    let most = if gso_type == 0 { 8 } else { 64 };
    if count == 0 || count > most || chunk >= count {
        return Err(MetadataError::Chunk);
    }
    let virtio = VirtioHeader {
        flags,
        gso_type,
        hdr_len: short(&bytes[2..4]),
        gso_size: short(&bytes[4..6]),
        csum_start: short(&bytes[6..8]),
        csum_offset: short(&bytes[8..10]),
    };
    Ok(Metadata { virtio, chunk, count })
}

fn check_metadata(bytes: &[u8; METADATA_LEN]) {
    let read = Metadata::decode(bytes);
    assert_eq!(read, metadata_as_written(bytes), "{bytes:02x?}");
    if let Ok(metadata) = read {
        assert_eq!(metadata.encode(), *bytes);
    }
}

#[test]
fn metadata_with_any_two_bytes_changed_is_read_as_it_is_written() {
    for base in [[0, 0, 0, 40, 4, 0, 0, 20, 0, 16, 0, 1], [1, 5, 0, 48, 4, 0, 0, 40, 0, 6, 63, 64]]
    {
        let count = with_two_bytes_changed(&base, METADATA_LEN, |bytes| {
            check_metadata(bytes.try_into().unwrap());
        });
        assert_eq!(count, 66 << 16);
    }
}

#[test]
fn every_segmentation_chunk_and_count_is_read_as_it_is_written() {
    for gso_type in 0..=u8::MAX {
        for chunk_and_count in 0..=u16::MAX {
            let mut bytes = [0; METADATA_LEN];
            bytes[1] = gso_type;
            bytes[10..].copy_from_slice(&chunk_and_count.to_be_bytes());
            check_metadata(&bytes);
        }
    }
}

fn control_as_written(bytes: &[u8]) -> Result<Control, ControlError> {
    let (length, value) = (short(&bytes[1..3]), number(&bytes[3..11]));
    let control = match bytes[0] {
        1 => Control::Confirm,
        2 => Control::Confirmed,
        3 => Control::Epoch,
        4 => Control::Close,
        5 => Control::Probe,
        6 => Control::Arrived(length),
        7 => Control::Challenge(value),
        8 => Control::Answer(value),
        9 => Control::Damaged {
            refused: u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]),
            sent: u32::from_be_bytes([bytes[7], bytes[8], bytes[9], bytes[10]]),
        },
        _ => return Err(ControlError::Unknown),
    };
    let has_length = bytes[0] == 6;
    let has_value = bytes[0] >= 7;
    if bytes[11] != 0 || (length != 0 && !has_length) || (value != 0 && !has_value) {
        return Err(ControlError::Unknown);
    }
    Ok(control)
}

#[test]
fn control_messages_with_any_two_bytes_changed_are_read_as_they_are_written() {
    let bases = [
        Control::Confirm,
        Control::Probe,
        Control::Arrived(1_472),
        Control::Challenge(0x0102_0304_0506_0708),
        Control::Damaged { refused: 0x0102_0304, sent: 0x0506_0708 },
    ];
    for base in bases.map(Control::encode) {
        let count = with_two_bytes_changed(&base, base.len(), |bytes| {
            let read = Control::decode(bytes);
            assert_eq!(read, control_as_written(bytes), "{bytes:02x?}");
            if let Ok(control) = read {
                assert_eq!(control.encode(), *bytes);
            }
        });
        assert_eq!(count, 66 << 16);
    }
}

#[test]
fn every_byte_of_a_virtio_header_has_one_place() {
    let base = [0xa5; VIRTIO_HEADER_LEN];
    let count = with_two_bytes_changed(&base, VIRTIO_HEADER_LEN, |bytes| {
        let header = VirtioHeader::decode(bytes.try_into().unwrap());
        assert_eq!(header.encode(), *bytes);
        // Little endian, unlike everything that leaves the host.
        let numbers = [header.hdr_len, header.gso_size, header.csum_start, header.csum_offset];
        for (number, place) in numbers.into_iter().zip([2, 4, 6, 8]) {
            assert_eq!(number, u16::from(bytes[place]) + 256 * u16::from(bytes[place + 1]));
        }
        assert_eq!([header.flags, header.gso_type], bytes[..2]);
    });
    assert_eq!(count, 45 << 16);
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    let hello = Hello {
        lanes: 2,
        uso: true,
        datagram_max: 1_472,
        instance: *b"an instance of 1",
        generation: 3,
        no_aes: false,
    };
    Frame::Hello(hello).encode(&mut bytes).unwrap();
    bytes
}

/// What a hello of 28 bytes says, or the first rule that it breaks.
fn hello_as_written(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameError> {
    let (kind, version, length) = (bytes[0], bytes[1], short(&bytes[2..4]));
    let wrong = |frame, expected| Err(FrameError::Length { frame, found: length, expected });
    match (version, kind, length) {
        (1, 1, 24) => {}
        (1, 1, _) => return wrong("hello", "24"),
        (1, 2, 5..=257) if length % 4 == 1 => {
            // As many indices as are announced, or more bytes than there are.
            return if length > 24 { Ok(None) } else { indices_as_written(bytes, length) };
        }
        (1, 2, _) => return wrong("indices", "1 + 4 × 1 to 64"),
        (1, 3, 0) => return Ok(Some((Frame::Ready, 4))),
        (1, 3, _) => return wrong("ready", "0"),
        (1, 4, 1) if bytes[4] > 63 => return Err(FrameError::Stream(bytes[4])),
        (1, 4, 1) => return Ok(Some((Frame::Stream(bytes[4]), 5))),
        (1, 4, _) => return wrong("stream", "1"),
        (1, ..) => return Err(FrameError::Type(kind)),
        _ => return Err(FrameError::Version(version)),
    }
    let (lanes, flags, datagram_max) = (bytes[4], bytes[5], short(&bytes[6..8]));
    if lanes == 0 || lanes > 64 {
        return Err(FrameError::Lanes(lanes));
    }
    if datagram_max < 1_232 {
        return Err(FrameError::DatagramMax(datagram_max));
    }
    let hello = Hello {
        lanes,
        uso: flags % 2 == 1,
        datagram_max,
        instance: bytes[8..24].try_into().unwrap(),
        generation: u32::try_from(number(&bytes[24..28])).unwrap(),
        no_aes: flags / 2 % 2 == 1,
    };
    Ok(Some((Frame::Hello(hello), 28)))
}

fn indices_as_written(bytes: &[u8], length: u16) -> Result<Option<(Frame, usize)>, FrameError> {
    let count = bytes[4];
    if u16::from(count) * 4 + 1 != length {
        return Err(FrameError::Count { count, found: length });
    }
    let mut indices = Vec::new();
    for chunk in bytes[5..4 + usize::from(length)].chunks(4) {
        let index = ReceiverIndex(u32::try_from(number(chunk)).unwrap());
        if chunk[0] > 63 {
            return Err(FrameError::Worker(index));
        }
        if indices.contains(&index) {
            return Err(FrameError::Repeated(index));
        }
        indices.push(index);
    }
    Ok(Some((Frame::Indices(indices), 4 + usize::from(length))))
}

#[test]
fn hellos_with_any_two_bytes_changed_are_read_as_they_are_written() {
    let base = hello();
    let count = with_two_bytes_changed(&base, base.len(), |bytes| {
        assert_eq!(Frame::decode(bytes), hello_as_written(bytes), "{bytes:02x?}");
    });
    assert_eq!(count, 378 << 16);
}

/// Five indices in 25 bytes.
#[test]
fn indices_with_any_two_bytes_changed_are_read_as_they_are_written() {
    let indices: Vec<_> = (0..5).map(|i| ReceiverIndex(i << 24 | 77)).collect();
    let mut base = Vec::new();
    Frame::Indices(indices).encode(&mut base).unwrap();
    base.extend([0; 3]);
    let count = with_two_bytes_changed(&base, 25, |bytes| {
        assert_eq!(Frame::decode(bytes), hello_as_written(bytes), "{bytes:02x?}");
    });
    assert_eq!(count, 300 << 16);
}

#[test]
fn a_frame_that_is_cut_off_anywhere_is_waited_for() {
    let base = hello();
    for len in 0..base.len() {
        assert_eq!(Frame::decode(&base[..len]), Ok(None), "{len} bytes");
    }
}
