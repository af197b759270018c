//! See `weft_fuzz::targets::inner_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::inner_packet(data));
