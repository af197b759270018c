//! The stores that there are.

use std::sync::Arc;

use weft_store::{Memory, Store};

use crate::Ground;

pub(crate) struct InMemory;

impl Ground for InMemory {
    const CASES: u32 = 256;

    fn prepare() -> Self {
        Self
    }

    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(Memory::default())
    }
}
