//! See `weft_fuzz::names::gateway_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::names::gateway_packet(data));
