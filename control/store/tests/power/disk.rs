//! A disk that keeps for sure only what was synced.

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

/// What a disk writes at once.
const SECTOR: usize = 512;

#[derive(Debug)]
pub(crate) enum DiskEvent {
    Made(String),
    Removed(String),
    Wrote { file: String, at: u64, bytes: Vec<u8> },
    Cut { file: String, len: u64 },
    Synced(String),
    DirectorySynced,
}

impl DiskEvent {
    pub(crate) fn is_sync(&self) -> bool {
        matches!(self, Self::Synced(_) | Self::DirectorySynced)
    }
}

/// What becomes of that which was not synced.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// All of it is lost, names of files too.
    Lost,
    /// All of it is there.
    Kept,
    /// All but the last, of which a half is there.
    Torn,
    /// Any of it is there, in any order, sector by sector.
    Mixed(u64),
}

impl Fate {
    pub(crate) fn all(seed: u64) -> [Self; 5] {
        [Self::Lost, Self::Kept, Self::Torn, Self::Mixed(2 * seed), Self::Mixed(2 * seed + 1)]
    }
}

#[derive(Debug, Clone)]
enum Pending {
    Write { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

#[derive(Debug, Default)]
struct File {
    /// Whether its name is durable.
    is_named: bool,
    /// Removed, and that is not durable yet.
    is_removed: bool,
    synced: Vec<u8>,
    pending: Vec<Pending>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<String, File>,
}

impl Disk {
    pub(crate) fn handle(&mut self, event: &DiskEvent) {
        match event {
            DiskEvent::Made(name) => {
                let file = self.files.entry(name.clone()).or_default();
                // One of that name again: what the old one had is not this one's.
                if std::mem::take(&mut file.is_removed) {
                    file.pending.push(Pending::Cut(0));
                }
            }
            DiskEvent::Removed(name) => {
                if let Some(file) = self.files.get_mut(name) {
                    file.is_removed = true;
                }
            }
            DiskEvent::Wrote { file, at, bytes } => {
                let at = usize::try_from(*at).unwrap();
                self.pending(file).push(Pending::Write { at, bytes: bytes.clone() });
            }
            DiskEvent::Cut { file, len } => {
                self.pending(file).push(Pending::Cut(usize::try_from(*len).unwrap()));
            }
            DiskEvent::Synced(name) => {
                let file = self.files.get_mut(name).unwrap();
                for pending in std::mem::take(&mut file.pending) {
                    apply(&mut file.synced, &pending);
                }
            }
            DiskEvent::DirectorySynced => {
                self.files.retain(|_, file| !file.is_removed);
                self.files.values_mut().for_each(|file| file.is_named = true);
            }
        }
    }

    fn pending(&mut self, name: &str) -> &mut Vec<Pending> {
        &mut self.files.get_mut(name).unwrap().pending
    }

    /// What is found after a loss of power now.
    pub(crate) fn image(&self, fate: Fate) -> Image {
        let mut files = BTreeMap::new();
        let mut random = Random(match fate {
            Fate::Mixed(seed) => seed,
            _ => 0,
        });
        for (name, file) in &self.files {
            let is_there = match fate {
                Fate::Lost => file.is_named,
                Fate::Kept | Fate::Torn => !file.is_removed,
                Fate::Mixed(_) if file.is_removed || !file.is_named => random.half(),
                Fate::Mixed(_) => true,
            };
            if is_there {
                files.insert(name.clone(), file.content(fate, &mut random));
            }
        }
        Image { files }
    }
}

impl File {
    fn content(&self, fate: Fate, random: &mut Random) -> Vec<u8> {
        let mut content = self.synced.clone();
        match (fate, self.pending.split_last()) {
            (Fate::Lost, _) | (_, None) => {}
            (Fate::Kept, _) => self.pending.iter().for_each(|pending| apply(&mut content, pending)),
            (Fate::Torn, Some((last, before))) => {
                before.iter().for_each(|pending| apply(&mut content, pending));
                if let Pending::Write { at, bytes } = last {
                    let bytes = bytes[..bytes.len() / 2].to_vec();
                    apply(&mut content, &Pending::Write { at: *at, bytes });
                }
            }
            (Fate::Mixed(_), Some(_)) => {
                for pending in &self.pending {
                    let Pending::Write { at, bytes } = pending else {
                        if random.half() {
                            apply(&mut content, pending);
                        }
                        continue;
                    };
                    for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                        if random.half() {
                            let (at, bytes) = (at + n * SECTOR, sector.to_vec());
                            apply(&mut content, &Pending::Write { at, bytes });
                        }
                    }
                }
            }
        }
        content
    }
}

fn apply(content: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Write { at, bytes } => {
            let end = at + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*at..end].copy_from_slice(bytes);
        }
        Pending::Cut(len) => content.resize(*len, 0),
    }
}

/// Files as they are found.
#[derive(Debug)]
pub(crate) struct Image {
    files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.files.hash(&mut hasher);
        hasher.finish()
    }

    pub(crate) fn write(&self, directory: &Path) {
        for (name, content) in &self.files {
            fs::write(directory.join(name), content).unwrap();
        }
    }

    /// With what a store has made beside them.
    pub(crate) fn remove(&self, directory: &Path) {
        for file in fs::read_dir(directory).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
struct Random(u64);

impl Random {
    fn half(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) & 1 == 1
    }
}
