//! One state that is larger than memory should hold: written as a stream, read back as a stream.
//!
//! `cargo run --release --example large_state -- [GiB] [DIR]` writes a state of that size (default 4) into a store in
//! DIR (default: a temporary directory), reads it back through `Checkpoint::reader`, compares every byte, and prints the
//! most memory that the process ever had resident.
#![expect(clippy::print_stdout, reason = "an example program")]

use std::{
    error::Error,
    io::{Read, Write},
    path::PathBuf,
    time::Instant,
};

use piton::{Manifest, Scope, Store};

/// How much is written and read at a time.
const PIECE: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let gibibytes: u64 = arguments.next().map_or(Ok(4), |argument| argument.parse())?;
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let pieces = gibibytes * (1 << 30) / PIECE as u64;
    let store = Store::open(dir)?;

    let start = Instant::now();
    let pending = store.begin_next()?;
    let mut writer = pending.writer(Scope::Exclusive)?;
    (0..pieces).try_for_each(|n| writer.write_all(&piece(n)))?;
    let handle = writer.finish()?;
    let checkpoint = pending.commit(Manifest::builder().state("large", handle.clone()))?;
    println!("wrote and committed {} bytes in {:.1?}", handle.len(), start.elapsed());

    let start = Instant::now();
    let mut reader = checkpoint.reader(&handle)?;
    let mut found = vec![0; PIECE];
    for n in 0..pieces {
        reader.read_exact(&mut found)?;
        if found != piece(n) {
            return Err(format!("piece {n} is not what was written").into());
        }
    }
    println!("verified, read back and compared in {:.1?}", start.elapsed());
    println!("most memory ever resident: {}", peak_memory()?);
    Ok(())
}

/// Bytes that differ from piece to piece.
fn piece(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(PIECE / 8)
}

/// What Linux says of this process; `VmHWM` counts pages of mapped files, too.
fn peak_memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or("unknown").trim().to_owned())
}
