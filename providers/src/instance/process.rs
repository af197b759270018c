//! Instances as processes of this host, for tests and small installations.
//!
//! Each has a group of its own, gets its data on its standard input and nothing of this process's environment but
//! `PATH`. All are cut off when their [`ProcessInstances`] is dropped, and its runtime must live until then. What a
//! process leaves behind when it ends by itself is its own affair.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    sync::watch,
};

use super::{Instance, InstanceInfo, InstanceSpec, InstanceState, STOP_GRACE_MAX};
use crate::{LIST_LEN_MAX, Page, error::ProviderError, name::ResourceName};

/// Most instances.
const INSTANCES_MAX: usize = 1_000;

/// What an image stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessImage {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// See the module's text.
#[derive(Debug)]
pub struct ProcessInstances {
    images: BTreeMap<String, ProcessImage>,
    table: Arc<Table>,
}

#[derive(Debug)]
struct Table {
    instances: Mutex<BTreeMap<ResourceName, Process>>,
    /// How many were started.
    started: AtomicU64,
    changes: watch::Sender<u64>,
}

/// One that was started.
#[derive(Debug)]
struct Process {
    info: InstanceInfo,
    /// How long it still has; that this is dropped means no time at all.
    grace: watch::Sender<Option<Duration>>,
    /// Tells one process from the next of the same name.
    number: u64,
}

impl ProcessInstances {
    /// Instances of these images.
    #[must_use]
    pub fn new(images: BTreeMap<String, ProcessImage>) -> Self {
        let table = Table {
            instances: Mutex::default(),
            started: AtomicU64::new(0),
            changes: watch::Sender::new(1),
        };
        Self { images, table: Arc::new(table) }
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ResourceName, Process>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_changed(&self) {
        self.changes.send_modify(|moment| *moment += 1);
    }

    /// What is true of a process now, if it still is the one of this name.
    fn set(&self, name: &ResourceName, number: u64, state: InstanceState, ending: Option<String>) {
        if let Some(process) = self.lock().get_mut(name).filter(|process| process.number == number)
        {
            process.info.state = state;
            process.info.ending = ending;
        }
        self.has_changed();
    }
}

#[async_trait]
impl Instance for ProcessInstances {
    async fn start(
        &self,
        name: &ResourceName,
        spec: &InstanceSpec,
    ) -> Result<InstanceInfo, ProviderError> {
        spec.check()?;
        let Some(image) = self.images.get(&spec.image) else {
            let text = format!("image: {:?} is not known here", spec.image);
            return Err(ProviderError::Invalid(text));
        };
        let mut instances = self.table.lock();
        let count = instances.len();
        let entry = match instances.entry(name.clone()) {
            Entry::Vacant(entry) => entry,
            Entry::Occupied(there) if there.get().info.spec == *spec => {
                return Ok(there.get().info.clone());
            }
            Entry::Occupied(_) => {
                let text = format!("instance {name} is there with another specification");
                return Err(ProviderError::Conflict(text));
            }
        };
        if count >= INSTANCES_MAX {
            return Err(ProviderError::Full(format!("there are {INSTANCES_MAX} instances")));
        }
        let child = spawn(image).map_err(|error| {
            ProviderError::io(&format!("the program of image {}", spec.image), &error)
        })?;
        let (grace, told) = watch::channel(None);
        let info = InstanceInfo {
            name: name.clone(),
            spec: spec.clone(),
            state: InstanceState::Running,
            ending: None,
            addresses: Vec::new(),
        };
        let number = self.table.started.fetch_add(1, Ordering::Relaxed);
        entry.insert(Process { info: info.clone(), grace, number });
        drop(instances);
        self.table.has_changed();
        let (table, name, data) = (self.table.clone(), name.clone(), spec.user_data.clone());
        tokio::spawn(async move {
            let ending = attend(child, data, told).await;
            table.set(&name, number, InstanceState::Ended, Some(ending));
        });
        Ok(info)
    }

    async fn describe(&self, name: &ResourceName) -> Result<InstanceInfo, ProviderError> {
        match self.table.lock().get(name) {
            Some(process) => Ok(process.info.clone()),
            None => Err(absent(name)),
        }
    }

    async fn list(
        &self,
        after: Option<&ResourceName>,
        len_max: usize,
    ) -> Result<Page<InstanceInfo>, ProviderError> {
        let len_max = len_max.min(LIST_LEN_MAX);
        let instances = self.table.lock();
        let later = |process: &&Process| after.is_none_or(|after| process.info.name > *after);
        let mut wanted = instances.values().filter(later);
        let entries = wanted.by_ref().take(len_max).map(|process| process.info.clone()).collect();
        Ok(Page { entries, more: wanted.next().is_some() })
    }

    async fn stop(&self, name: &ResourceName, grace: Duration) -> Result<(), ProviderError> {
        let mut instances = self.table.lock();
        let process = instances.get_mut(name).ok_or_else(|| absent(name))?;
        if process.info.state != InstanceState::Ended {
            process.info.state = InstanceState::Stopping;
            process.grace.send_replace(Some(grace.min(STOP_GRACE_MAX)));
        }
        drop(instances);
        self.table.has_changed();
        Ok(())
    }

    async fn delete(&self, name: &ResourceName) -> Result<(), ProviderError> {
        // Dropping it cuts it off.
        if self.table.lock().remove(name).is_some() {
            self.table.has_changed();
        }
        Ok(())
    }

    async fn changed(&self, seen: u64) -> Result<u64, ProviderError> {
        let mut changes = self.table.changes.subscribe();
        let moment = changes.wait_for(|moment| *moment > seen).await;
        moment.map(|moment| *moment).map_err(|error| ProviderError::Unavailable(error.to_string()))
    }
}

impl Drop for ProcessInstances {
    fn drop(&mut self) {
        self.table.lock().clear();
    }
}

fn absent(name: &ResourceName) -> ProviderError {
    ProviderError::Absent(format!("instance {name}"))
}

fn spawn(image: &ProcessImage) -> std::io::Result<Child> {
    let mut command = Command::new(&image.program);
    command.args(&image.arguments).env_clear().process_group(0).kill_on_drop(true);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Gives a process its data and waits for its end, or brings it about. Returns how it ended.
async fn attend(
    mut child: Child,
    data: Bytes,
    mut told: watch::Receiver<Option<Duration>>,
) -> String {
    if let Some(mut input) = child.stdin.take() {
        // One that does not read must not keep this from watching it.
        tokio::spawn(async move {
            let _ = input.write_all(&data).await;
        });
    }
    let grace = tokio::select! {
        ended = child.wait() => return describe(ended),
        grace = grace(&mut told) => grace,
    };
    if let Some(grace) = grace {
        signal(&child, Signal::TERM);
        tokio::select! {
            ended = child.wait() => return describe(ended),
            () = tokio::time::sleep(grace) => {}
            // Whoever deletes it does not want to wait.
            () = deleted(&mut told) => {}
        }
    }
    signal(&child, Signal::KILL);
    describe(child.wait().await)
}

/// Waits until a process is told to stop; `None` if it was deleted.
async fn grace(told: &mut watch::Receiver<Option<Duration>>) -> Option<Duration> {
    told.wait_for(Option::is_some).await.ok().and_then(|grace| *grace)
}

async fn deleted(told: &mut watch::Receiver<Option<Duration>>) {
    while told.changed().await.is_ok() {}
}

/// Signals a process that nobody has waited for yet, so that its number is still its own, and its group.
fn signal(child: &Child, signal: Signal) {
    let number = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(group) = number.and_then(Pid::from_raw) {
        // It may have ended just now.
        let _ = kill_process_group(group, signal);
    }
}

fn describe(ended: std::io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => status.to_string(),
        Err(error) => format!("unknown: {error}"),
    }
}

#[cfg(test)]
mod tests;
