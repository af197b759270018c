//! Flows that only ask for their packets to be quick, and flows that only ask for much: the sparse
//! and bulk flows of RFC 8290. What exists once for each of them is a [`PerClass`].

/// The class of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowClass {
    /// Many bytes; its packets may wait for each other.
    Bulk,
    /// Few bytes; a packet of it is served before those of bulk flows.
    Sparse,
}

impl FlowClass {
    /// Both, in the order in which they are served.
    pub const BY_URGENCY: [Self; 2] = [Self::Sparse, Self::Bulk];
}

/// One thing for bulk flows and one for sparse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerClass<T> {
    /// For [`FlowClass::Bulk`].
    pub bulk: T,
    /// For [`FlowClass::Sparse`].
    pub sparse: T,
}

impl<T> PerClass<T> {
    /// The one for `class`.
    #[inline]
    #[must_use]
    pub fn get(&self, class: FlowClass) -> &T {
        match class {
            FlowClass::Bulk => &self.bulk,
            FlowClass::Sparse => &self.sparse,
        }
    }

    /// The one for `class`.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, class: FlowClass) -> &mut T {
        match class {
            FlowClass::Bulk => &mut self.bulk,
            FlowClass::Sparse => &mut self.sparse,
        }
    }

    /// Both, each made into something else.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerClass<U> {
        PerClass { bulk: f(self.bulk), sparse: f(self.sparse) }
    }
}
