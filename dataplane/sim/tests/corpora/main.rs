//! Every fuzz target over its committed corpus and over seeded changes of it, with a stable
//! compiler. `WEFT_CORPUS_WRITE=1` writes the seeds of the corpora anew, `WEFT_FUZZ_ROUNDS=n`
//! changes every file so often.

mod control_seeds;
mod dns_seeds;
#[expect(unreachable_pub, reason = "public in the fuzz crate, whose file it is")]
#[path = "../../../fuzz/src/names.rs"]
mod names;
#[expect(unreachable_pub, reason = "public in the fuzz crate, whose file it is")]
#[path = "../../../fuzz/src/pair.rs"]
mod pair;
mod seeds;
#[expect(unreachable_pub, reason = "public in the fuzz crate, whose file it is")]
#[path = "../../../fuzz/src/targets.rs"]
mod targets;
mod told_seeds;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use pair::{Memory, Pair};
use seeds::seeds;
use weft_sim::rng::Rng;

const ROUNDS: usize = 400;
/// Longest input that is made.
const INPUT_LEN_MAX: usize = 70_000;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn changed(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = corpus[rng.below(corpus.len())].clone();
    for _ in 0..rng.between(1, 4) {
        let at = rng.below(data.len() + 1);
        let byte = rng.bits().to_ne_bytes()[0];
        match rng.below(8) {
            0..=2 if at < data.len() => data[at] ^= 1 << rng.below(8),
            3 if at < data.len() => data[at] = byte,
            4 if at < data.len() => data[at] = rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            5 => data.truncate(at),
            6 => data.insert(at, byte),
            _ => {
                let other = &corpus[rng.below(corpus.len())];
                let from = rng.below(other.len() + 1);
                let piece = other[from..(from + rng.below(80)).min(other.len())].to_vec();
                let end = (at + rng.below(piece.len() + 1)).min(data.len());
                data.splice(at..end, piece);
            }
        }
    }
    data.truncate(INPUT_LEN_MAX);
    data
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(folder(target))
        .expect("a corpus is committed for every target")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    files.iter().map(|path| fs::read(path).expect("readable")).collect()
}

#[test]
fn every_target_survives_its_corpus_and_changes_of_it() {
    let rounds = std::env::var("WEFT_FUZZ_ROUNDS").map_or(ROUNDS, |n| n.parse().expect("a number"));
    for (name, target) in targets::ALL {
        if std::env::var_os("WEFT_CORPUS_WRITE").is_some() {
            fs::create_dir_all(folder(name)).unwrap();
            for (file, data) in seeds(name) {
                fs::write(folder(name).join(file), data).unwrap();
            }
        }
        let corpus = corpus(name);
        assert!(corpus.len() >= 3, "{name} has a corpus");
        for data in &corpus {
            target(data);
        }
        for seed in 0..(rounds * corpus.len()) as u64 {
            let data = changed(&mut Rng::new(seed), &corpus);
            let run = catch_unwind(AssertUnwindSafe(|| target(&data)));
            assert!(run.is_ok(), "target {name}, change {seed}: {data:02x?}");
        }
    }
}

/// A corpus that the targets refuse at the door tests nothing.
#[test]
fn corpora_reach_the_depths() {
    let mut pair = Pair::fresh();
    let mut io = Memory::default();
    for input in corpus("datagram") {
        let segment = usize::from(u16::from_be_bytes([input[0], input[1]]));
        let now = pair.now;
        pair.server.handle_datagrams(
            now,
            Pair::UNDERLAY,
            weft_wire::Ecn::Ect0,
            segment,
            &input[3..],
            &mut io,
        );
        pair.server.finish_receive(&mut io);
    }
    assert!(io.delivered.len() >= corpus("datagram").len() / 2);
    let sealed = corpus("container_frame").into_iter().filter(|data| {
        let mut io = Memory::default();
        let mut pair = Pair::fresh();
        pair.client.handle_packet(pair.now, Pair::ATTACHMENT, &mut data.clone(), &mut io);
        !io.datagrams.is_empty()
    });
    assert!(sealed.count() >= 12);
    let believed = corpus("certificate").into_iter().filter(|data| targets::believed(data));
    assert_eq!(believed.count(), 3, "all but one are a host's for both sides");
    let with = |name: &str| fs::read(folder("kernel").join(name)).expect("committed");
    let mut links = 0;
    let over = weft_sys::link::read_answers(&with("dump"), targets::SEQUENCE, |_| links += 1);
    assert!(over.expect("whole") && links == 2);
    let audit = |name: &str| fs::read(folder("audit").join(name)).expect("committed");
    let segment = audit("segment");
    let mut lines = segment.split_inclusive(|byte| *byte == b'\n');
    assert!(lines.all(|line| weft_audit::Line::parse(line).is_ok()));
    assert!(weft_audit::Signed::<weft_audit::Head>::parse(&audit("head")).is_ok());
    assert!(weft_audit::Signed::<weft_audit::Expired>::parse(&audit("stub")).is_ok());
    let sealed = |name: &str| fs::read(folder("sealed").join(name)).expect("committed");
    assert!(weft_keys::Sealed::parse(&sealed("sealed")[1..]).is_ok());
    assert!(weft_keys::Record::parse(&sealed("live")[1..]).is_ok());
    let mut buffer = with("received");
    let received = weft_sys::ring::read_message(&mut buffer);
    assert_eq!((received.ecn, received.segment, received.data.len()), (1, 10, 20));
    assert_eq!(received.from, "192.0.2.1:5820".parse().expect("an address"));
}
