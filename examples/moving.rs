//! What it costs to duplicate and to export (`docs/performance.md`, "Moving checkpoints").
//!
//! `cargo run --release --example moving -- [MIB] [DIR]` duplicates 10,000 states of 4 KiB and, beside it, makes 100 hard
//! links of a file; then exports a checkpoint of that many MiB of states of 64 KiB (default 256), and imports the export.
//! Bytes written are those that the kernel counts for this process.
#![expect(clippy::print_stdout, reason = "an example program")]
#![expect(clippy::cast_possible_truncation, reason = "any byte will do")]
#![expect(clippy::disallowed_methods, reason = "it compares with what the operating system does")]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use piton::{Claim, Manifest, Scope, Store, Way};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const STATES: usize = 10_000;
const ROUNDS: usize = 15;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mib: u64 = arguments.next().map_or(Ok(256), |argument| argument.parse())?;
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    duplicate(&dir.join("small"))?;
    export(&dir, mib)
}

fn duplicate(dir: &Path) -> Result<()> {
    let store = Store::open(dir)?;
    let pending = store.begin_next()?;
    let states: Vec<_> =
        (0..STATES).map(|n| pending.write(Scope::Shared, &[n as u8; 4096])).collect::<piton::Result<_>>()?;
    let numbered = states.iter().enumerate();
    pending.commit(
        numbered.fold(Manifest::builder(), |manifest, (n, state)| manifest.state(n.to_string(), state.clone())),
    )?;
    let segments = store.usage().physical_files;
    let (mut ours, mut links) = (Vec::new(), Vec::new());
    fs::write(dir.with_extension("file"), b"a file")?;
    for round in 0..ROUNDS {
        let pending = store.begin_next()?;
        let start = Instant::now();
        let copies = pending.duplicate(&states, Scope::Exclusive)?;
        ours.push(start.elapsed());
        drop((pending, copies));
        let names: Vec<_> = (0..100).map(|n| dir.with_extension(format!("link-{round}-{n}"))).collect();
        let start = Instant::now();
        names.iter().try_for_each(|name| fs::hard_link(dir.with_extension("file"), name))?;
        links.push(start.elapsed());
        names.iter().try_for_each(fs::remove_file)?;
    }
    let (ours, links) = (median(ours), median(links));
    println!("{STATES} states of 4 KiB in {segments} segments duplicated: {ours:.2?}; 100 hard links: {links:.2?}");
    println!("ratio {:.2}", ours.as_secs_f64() / links.as_secs_f64());
    Ok(())
}

fn export(dir: &Path, mib: u64) -> Result<()> {
    let store = Store::open(dir.join("large"))?;
    let pending = store.begin_next()?;
    let mut manifest = Manifest::builder();
    for n in 0..mib * 16 {
        let mut bytes = vec![n as u8; 64 << 10];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        manifest = manifest.state(n.to_string(), pending.write(Scope::Shared, &bytes)?);
    }
    let id = pending.commit(manifest)?.id();
    let (start, before) = (Instant::now(), written()?);
    let exported = store.export(id, dir.join("savepoint"))?;
    let linked = exported.files.iter().filter(|file| file.way == Way::Linked).count();
    println!(
        "{mib} MiB in {} files exported in {:.2?}: {linked} linked, {} bytes written, {} more in use",
        exported.files.len(),
        start.elapsed(),
        written()? - before,
        exported.space(),
    );
    drop(store);
    let other = Store::open(dir.join("other"))?;
    let (start, before) = (Instant::now(), written()?);
    let imported = other.import(&exported.root, Claim::Move)?;
    println!(
        "imported (moved) in {:.2?}: {} bytes written, {} more in use",
        start.elapsed(),
        written()? - before,
        imported.space(),
    );
    Ok(())
}

/// How many bytes this process has caused to be written to the medium, where the kernel counts that.
fn written() -> Result<u64> {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.map_or(Ok(0), str::parse)?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
