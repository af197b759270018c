//! The calls into C, and nothing else: the only `unsafe` outside `weft-sys`.
#![expect(unsafe_code, reason = "the library is C and assembly")]

use std::{ffi::c_int, sync::OnceLock};

use zeroize::Zeroize;

use crate::{KEY_LEN, NONCE_LEN, TAG_LEN, Unavailable};

unsafe extern "C" {
    safe fn weft_gcm_expanded_size() -> usize;
    safe fn weft_gcm_expanded_alignment() -> usize;
    fn weft_gcm_init() -> c_int;
    fn weft_gcm_expand(key: *const u8, expanded: *mut Line);
    fn weft_gcm_seal(
        expanded: *const Line,
        nonce: *const u8,
        aad: *const u8,
        aad_len: usize,
        text: *const u8,
        text_len: usize,
        tail: *const u8,
        tail_len: usize,
        out: *mut u8,
    );
    fn weft_gcm_open(
        expanded: *const Line,
        nonce: *const u8,
        aad: *const u8,
        aad_len: usize,
        text: *const u8,
        text_len: usize,
        out: *mut u8,
        tag: *mut u8,
    );
}

/// Makes the library ready once, and says whether it may be used.
pub(crate) fn ready() -> Result<(), Unavailable> {
    static STATUS: OnceLock<c_int> = OnceLock::new();
    // SAFETY: the call writes the shim's table of functions; `OnceLock` makes it once, before
    // anything reads that table, since an `Expanded` is made only after it.
    match STATUS.get_or_init(|| unsafe { weft_gcm_init() }) {
        0 => Ok(()),
        1 => Err(Unavailable::Memory),
        2 => Err(Unavailable::Instructions),
        _ => Err(Unavailable::SelfTest),
    }
}

/// A cache line, as which the library wants its keys aligned.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// An expanded key, in memory of its own; wiped when dropped.
pub(crate) struct Expanded(Box<[Line]>);

impl Expanded {
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Result<Self, Unavailable> {
        ready()?;
        assert!(weft_gcm_expanded_alignment() <= align_of::<Line>(), "a key's alignment");
        let lines = weft_gcm_expanded_size().div_ceil(size_of::<Line>());
        let mut expanded = Self(vec![Line([0; 64]); lines].into());
        // SAFETY: the library is ready; `key` has its 32 bytes, and `expanded` is as large and
        // aligned as the library's header asks, and ours alone.
        unsafe { weft_gcm_expand(key.as_ptr(), expanded.0.as_mut_ptr()) };
        Ok(expanded)
    }

    /// `out` must have room for text, tail and tag.
    #[inline]
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &[u8],
        tail: &[u8],
        out: &mut [u8],
    ) {
        assert_eq!(out.len(), text.len() + tail.len() + TAG_LEN, "room for text and tag");
        // SAFETY: an `Expanded` exists, so the library is ready and the key expanded. Every input
        // is read within the length given with it (the nonce has 12 bytes), and text, tail and
        // tag fill `out`, which is ours alone and so overlaps none of them.
        unsafe {
            weft_gcm_seal(
                self.0.as_ptr(),
                nonce.as_ptr(),
                aad.as_ptr(),
                aad.len(),
                text.as_ptr(),
                text.len(),
                tail.as_ptr(),
                tail.len(),
                out.as_mut_ptr(),
            );
        }
    }

    /// Decrypts, and gives the tag that `text` should have.
    #[inline]
    pub(crate) fn decrypt(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        text: &[u8],
        out: &mut [u8],
    ) -> [u8; TAG_LEN] {
        assert_eq!(out.len(), text.len(), "room for the text");
        let mut tag = [0; TAG_LEN];
        // SAFETY: as in `seal`; the plaintext has the length of `text` and so fills `out`.
        unsafe {
            weft_gcm_open(
                self.0.as_ptr(),
                nonce.as_ptr(),
                aad.as_ptr(),
                aad.len(),
                text.as_ptr(),
                text.len(),
                out.as_mut_ptr(),
                tag.as_mut_ptr(),
            );
        }
        tag
    }
}

impl Drop for Expanded {
    fn drop(&mut self) {
        for line in &mut self.0 {
            line.0.zeroize();
        }
    }
}
