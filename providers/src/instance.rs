//! Machines, or what stands for them.

use std::{fmt, net::IpAddr, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Page, error::ProviderError, name::ResourceName};

mod process;

pub use self::process::{ProcessImage, ProcessInstances};

/// Longest data for an instance, bytes: the smallest cloud's.
pub const USER_DATA_LEN_MAX: usize = 16 << 10;
/// Longest time that an instance is given to stop by itself.
pub const STOP_GRACE_MAX: Duration = Duration::from_secs(600);

/// What an instance is to be.
#[derive(Clone, PartialEq, Eq)]
pub struct InstanceSpec {
    /// What it runs: a name that the provider knows.
    pub image: String,
    /// How large it is: a name that the provider knows; may be empty.
    pub size: String,
    /// What it is given at its start, at most [`USER_DATA_LEN_MAX`] bytes. May hold secrets.
    pub user_data: Bytes,
}

impl InstanceSpec {
    /// Whether every provider takes it.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`] names the field.
    pub fn check(&self) -> Result<(), ProviderError> {
        if self.user_data.len() > USER_DATA_LEN_MAX {
            return Err(ProviderError::Invalid(format!(
                "user_data: {} bytes; expected at most {USER_DATA_LEN_MAX}",
                self.user_data.len()
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for InstanceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSpec")
            .field("image", &self.image)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceState {
    /// Is being made.
    Starting,
    /// Runs.
    Running,
    /// Was told to stop.
    Stopping,
    /// Has ended, by itself or because it was told. It does not start again.
    Ended,
}

/// What is known of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceInfo {
    /// Its name.
    pub name: ResourceName,
    /// What it is to be.
    pub spec: InstanceSpec,
    /// What it does.
    pub state: InstanceState,
    /// How it ended, for people.
    pub ending: Option<String>,
    /// Where it is reached; empty while that is not known, or where it shares this host's.
    pub addresses: Vec<IpAddr>,
}

/// Instances by name.
#[async_trait]
pub trait Instance: fmt::Debug + Send + Sync {
    /// Starts an instance. One that was started so before is left as it is, also if it has ended: it is deleted
    /// before its name is used again.
    ///
    /// # Errors
    /// [`ProviderError::Conflict`] if there is another one of this name; [`ProviderError::Invalid`] for an image or
    /// a size that nobody knows; [`ProviderError::Full`].
    async fn start(
        &self,
        name: &ResourceName,
        spec: &InstanceSpec,
    ) -> Result<InstanceInfo, ProviderError>;

    /// What is known of an instance.
    ///
    /// # Errors
    /// [`ProviderError::Absent`].
    async fn describe(&self, name: &ResourceName) -> Result<InstanceInfo, ProviderError>;

    /// Instances after `after`, in the order of their names: at most `len_max`, and never more than
    /// [`crate::LIST_LEN_MAX`].
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    async fn list(
        &self,
        after: Option<&ResourceName>,
        len_max: usize,
    ) -> Result<Page<InstanceInfo>, ProviderError>;

    /// Tells an instance to stop; after `grace`, at most [`STOP_GRACE_MAX`], it is cut off. Returns at once: see
    /// [`Instance::changed`]. Nothing happens to one that has ended.
    ///
    /// # Errors
    /// [`ProviderError::Absent`].
    async fn stop(&self, name: &ResourceName, grace: Duration) -> Result<(), ProviderError>;

    /// Cuts an instance off if it still runs, and forgets it, if it is there.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    async fn delete(&self, name: &ResourceName) -> Result<(), ProviderError>;

    /// Waits until something has changed after the moment that `seen` names, and names the present one; 0 is before
    /// everything. Whoever takes a list after it misses nothing. May be dropped and called again.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    async fn changed(&self, seen: u64) -> Result<u64, ProviderError>;
}
