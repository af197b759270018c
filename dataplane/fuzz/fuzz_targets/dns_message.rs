//! See `weft_fuzz::names::dns_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::names::dns_message(data));
