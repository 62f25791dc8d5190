#![no_main]

#[path = "../../tests/mutations/pairs.rs"]
mod pairs;
#[allow(dead_code)]
#[path = "../../tests/mutations/targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    targets::parse_feed(data);
});
