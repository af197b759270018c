//! Capabilities (`capabilities(7)`).

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// Numbers that a capability may have.
const CAPABILITIES_MAX: u32 = u64::BITS;

/// Lets no program that this one could start have any capability. Without the right to do so,
/// `no_new_privs` has to say the same.
pub fn empty_bounding_set() {
    for number in 0..CAPABILITIES_MAX {
        // A kernel knows fewer.
        let _ = remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number));
    }
}

/// Gives up all capabilities but these, which stay if they are there.
///
/// # Errors
/// As the operating system says.
pub fn keep_capabilities(kept: CapabilitySet) -> io::Result<()> {
    // A kernel without ambient capabilities has none to clear.
    let _ = clear_ambient_capability_set();
    let kept = kept & capabilities(None)?.permitted;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?;
    Ok(())
}
