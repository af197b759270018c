//! Every way in which a chain can be wrong, each with the error that it must have.

mod chains;
mod hosts;
mod lab;
