//! See `weft_fuzz::targets::audit`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::audit(data));
