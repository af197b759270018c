//! The Weft network daemon: threads, sockets and wiring around [`weft_proto`].

pub mod logging;
pub mod node;
pub mod worker;
