//! See `weft_fuzz::targets::container_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::container_frame(data));
