//! See `weft_fuzz::targets::frame_metadata`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::frame_metadata(data));
