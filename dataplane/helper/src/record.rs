//! One file for each interface, so that the next helper knows what this one leaves.
//!
//! The folder is beside the socket, on a file system that a restart of the host empties. A record
//! says nothing that a container could use, and is believed only where namespace and interface are
//! still those that it names.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::message::{Interface, Name, ParseError, decode};

/// Only the helper reads and writes there.
const FOLDER_MODE: u32 = 0o700;
/// Ends the name of a file that is still being written.
const UNFINISHED: &str = ".new";

/// What is known of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub(crate) interface: Interface,
    /// The namespace's number, which no other has or had since the host was started.
    pub(crate) netns_cookie: u64,
    /// The interface's number there.
    pub(crate) ifindex: u32,
    /// The start of the host to which the numbers belong.
    boot: String,
}

impl Record {
    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// When it is no record, or a field is out of bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let record: Self = decode(bytes)?;
        record.interface.check()?;
        Ok(record)
    }

    /// What is in the file.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// The records of one helper.
#[derive(Debug)]
pub(crate) struct Records {
    folder: PathBuf,
    boot: String,
}

impl Records {
    /// Opens the folder, which is made if it is missing, and reads what is there. Records of an
    /// earlier start of the host, and files that are none, are removed.
    pub(crate) fn open(folder: &Path) -> io::Result<(Self, Vec<Record>)> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        check_folder(folder)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let record = fs::read(&path)
                .ok()
                .and_then(|bytes| Record::parse(&bytes).ok())
                .filter(|record| record.boot == boot);
            match record {
                Some(record) if path == file(folder, &record.interface.name) => found.push(record),
                _ => fs::remove_file(&path)?,
            }
        }
        Ok((Self { folder: folder.to_owned(), boot }, found))
    }

    pub(crate) fn new_record(
        &self,
        interface: Interface,
        netns_cookie: u64,
        ifindex: u32,
    ) -> Record {
        Record { interface, netns_cookie, ifindex, boot: self.boot.clone() }
    }

    /// Writes a record; it is there whole or not at all.
    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let path = file(&self.folder, &record.interface.name);
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let written = File::create(&unfinished)
            .and_then(|mut file| file.write_all(&record.encode()?))
            .and_then(|()| fs::rename(&unfinished, &path));
        if written.is_err() {
            // It is removed at the next start otherwise.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    pub(crate) fn remove(&self, name: &Name) {
        // One that stays is found to be wrong by the next helper.
        let _ = fs::remove_file(file(&self.folder, name));
    }

    /// Removes the folder if nothing is in it.
    pub(crate) fn clean_up(&self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// What is removed and written below must not be somebody else's.
fn check_folder(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let user = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != user {
        let folder = folder.display();
        return Err(io::Error::other(format!("{folder}: expected a folder of user {user}")));
    }
    Ok(())
}

/// Names have no dots and no slashes.
fn file(folder: &Path, name: &Name) -> PathBuf {
    folder.join(format!("{}.{}", name.environment, name.attachment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_no_helper_would_write_is_none() {
        let text = |queues: u8| {
            format!(
                r#"{{"interface":{{"name":["acme","web-1"],"netns":"/run/netns/web1",
                "interface":"weft0","addresses":[["10.40.0.2",16]],"queues":{queues},"mtu":1408,
                "gso_max_size":60500,"gso_max_segs":64,"queue_len":1000}},
                "netns_cookie":7,"ifindex":2,"boot":"b"}}"#
            )
        };
        let record = Record::parse(text(2).as_bytes()).unwrap();
        assert_eq!(Record::parse(&record.encode().unwrap()).unwrap(), record);
        for queues in [0, weft_sys::tun::QUEUES_MAX + 1] {
            assert!(Record::parse(text(queues).as_bytes()).is_err());
        }
    }
}
