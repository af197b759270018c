//! What strace has seen.

use std::{collections::HashMap, path::Path};

use crate::{disk::DiskEvent, writer::parse_line};

/// Everything in one file in the order in which it happened, with whole contents, in hexadecimal, and the
/// paths of descriptors.
pub(crate) const OPTIONS: [&str; 8] = [
    "-f",
    "-qq",
    "-y",
    "-xx",
    "-s",
    "1000000",
    "-e",
    "trace=openat,write,pwrite64,lseek,ftruncate,fsync,fdatasync,unlink,rename,renameat2,fallocate",
];

/// What happened, by name of the file in the directory.
#[derive(Debug)]
pub(crate) enum Event {
    Disk(DiskEvent),
    Acknowledged { caller: usize, step: usize },
}

/// Positions of descriptors that `lseek` sets.
type Positions = HashMap<String, u64>;

pub(crate) fn parse(text: &str, directory: &Path) -> Vec<Event> {
    let directory = directory.to_str().unwrap();
    let mut unfinished: HashMap<&str, String> = HashMap::new();
    let mut positions = Positions::new();
    let mut events = Vec::new();
    for line in text.lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, begun.to_owned());
            // What is written may be on the disk from now on.
            if is_write(begun) {
                events.extend(event(begun, directory, &mut positions));
            }
        } else if let Some(rest) = call.strip_prefix("<... ") {
            let begun = unfinished.remove(thread).unwrap();
            let (_, rest) = rest.split_once(" resumed>").unwrap();
            if !is_write(&begun) {
                events.extend(event(&format!("{begun}{rest}"), directory, &mut positions));
            }
        } else {
            events.extend(event(call, directory, &mut positions));
        }
    }
    events
}

fn is_write(call: &str) -> bool {
    call.starts_with("write(") || call.starts_with("pwrite64(")
}

fn event(call: &str, directory: &str, positions: &mut Positions) -> Option<Event> {
    let (name, arguments) = call.split_once('(')?;
    if call.contains(") = -1 ") {
        return None;
    }
    let arguments: Vec<&str> =
        arguments.split(", ").map(|a| a.split(')').next().unwrap()).collect();
    let on_disk = |event| Some(Event::Disk(event));
    match name {
        "unlink" => {
            let path = text(arguments[0]);
            on_disk(DiskEvent::Removed(file(&path, directory)?))
        }
        "openat" => {
            // Only a file that may be new.
            let flags = arguments.get(2)?;
            let path = text(arguments[1]);
            flags.contains("O_CREAT").then_some(())?;
            on_disk(DiskEvent::Made(file(&path, directory)?))
        }
        "rename" | "renameat2" | "fallocate" => {
            let inside = arguments.iter().any(|argument| text(argument).starts_with(directory));
            assert!(!inside, "{call}");
            None
        }
        _ => {
            let descriptor = arguments[0];
            let (number, path) = descriptor.split_once('<')?;
            let path = text(path.trim_end_matches('>'));
            if number == "1" {
                let line = String::from_utf8_lossy(&bytes(arguments[1])).into_owned();
                let (caller, step) = parse_line(&line)?;
                return Some(Event::Acknowledged { caller, step });
            }
            let is_sync = matches!(name, "fsync" | "fdatasync");
            if is_sync && path == directory {
                return on_disk(DiskEvent::DirectorySynced);
            }
            let file = file(&path, directory)?;
            let number = |at: usize| arguments[at].trim().parse::<u64>().unwrap();
            match name {
                "fsync" | "fdatasync" => on_disk(DiskEvent::Synced(file)),
                "ftruncate" => on_disk(DiskEvent::Cut { file, len: number(1) }),
                "pwrite64" => {
                    on_disk(DiskEvent::Wrote { file, at: number(3), bytes: bytes(arguments[1]) })
                }
                "lseek" => {
                    assert_eq!(arguments[2], "SEEK_SET", "{call}");
                    positions.insert(descriptor.to_owned(), number(1));
                    None
                }
                _ => {
                    let at = positions.entry(descriptor.to_owned()).or_default();
                    let bytes = bytes(arguments[1]);
                    let wrote = DiskEvent::Wrote { file, at: *at, bytes: bytes.clone() };
                    *at += bytes.len() as u64;
                    on_disk(wrote)
                }
            }
        }
    }
}

/// The name of a store's file; none for what is elsewhere, and for what a loss of power does not leave.
fn file(path: &str, directory: &str) -> Option<String> {
    let name = path.strip_prefix(directory)?.strip_prefix('/')?;
    (!name.ends_with("-shm") && !name.ends_with("-lock")).then(|| name.to_owned())
}

fn text(quoted: &str) -> String {
    if quoted.contains("\\x") {
        String::from_utf8(bytes(quoted)).unwrap()
    } else {
        quoted.trim_matches('"').to_owned()
    }
}

fn bytes(quoted: &str) -> Vec<u8> {
    let hex = quoted.trim_matches('"');
    hex.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}
