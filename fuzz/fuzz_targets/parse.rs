//! Whatever the bytes are, parsing them returns, and a manifest that parses has no other form.
#![cfg_attr(fuzzing, no_main)]

fn check(bytes: &[u8]) {
    if let Ok(again) = piton::testing::parse_anything(bytes) {
        assert_eq!(again.as_deref(), Some(bytes));
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// Without a fuzzer: checks the files that are named.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    std::env::args().skip(1).try_for_each(|path| std::fs::read(path).map(|bytes| check(&bytes)))
}
