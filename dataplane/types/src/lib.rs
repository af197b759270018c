//! Ids and newtypes of the Weft dataplane.
//!
//! Every id, index and counter that crosses a crate boundary is a type of its own, checked where
//! it is made. Nothing here does I/O or allocates on the packet path.

mod index;
mod name;
mod subnet;
mod text;

pub use index::{
    Counter, EPOCHS_PER_SESSION_MAX, Epoch, IndexError, LANES_MAX, LaneId, ReceiverIndex,
    WORKERS_MAX, WorkerId,
};
pub use name::{
    AttachmentName, ComponentId, EnvironmentId, HostId, InstallationId, NAME_LEN_MAX, NameError,
    RuleName,
};
pub use subnet::{Subnet, SubnetError};
