//! What the file system below a store can do, tried in a temporary directory beside it.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Instant,
};

use piton::Options;
use serde::Serialize;

use crate::output::Text;

/// How often a sync is measured.
const SYNCS: usize = 32;
/// How much is written before each.
const PIECE: usize = 16 << 10;

#[derive(Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a capability of its own")]
pub(super) struct FileSystem {
    hard_links: bool,
    reflinks: bool,
    punch_holes: bool,
    locks: bool,
    direct_io: bool,
    /// Of a file of which 16 KiB were written over: the median.
    sync_micros: u64,
    sync_micros_p95: u64,
}

/// `None` where no directory can be made beside the store, as on read-only media.
pub(super) fn file_system(store: &Path) -> Option<FileSystem> {
    let store = std::path::absolute(store).ok()?;
    let dir = tempfile::Builder::new().prefix(".piton-probe-").tempdir_in(store.parent()?).ok()?;
    probe(dir.path()).ok()
}

fn probe(dir: &Path) -> Result<FileSystem, Box<dyn std::error::Error>> {
    let root = dir.join("store");
    let store = Options::new().open(&root)?;
    let capabilities = store.capabilities()?;
    // Another open of the store that succeeds says that locks are not kept.
    let locks = Options::new().open(&root).is_err_and(|error| error.is_locked());
    drop(store);
    let mut micros = syncs(&dir.join("sync"))?;
    micros.sort_unstable();
    Ok(FileSystem {
        hard_links: capabilities.hard_links,
        reflinks: capabilities.reflinks,
        punch_holes: capabilities.punch_holes,
        locks,
        direct_io: direct_io(&dir.join("direct")),
        sync_micros: micros.get(micros.len() / 2).copied().unwrap_or_default(),
        sync_micros_p95: micros.get(micros.len() * 95 / 100).copied().unwrap_or_default(),
    })
}

fn syncs(path: &Path) -> io::Result<Vec<u64>> {
    let mut file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
    file.write_all(&vec![0; PIECE * SYNCS])?;
    file.sync_all()?;
    io::Seek::rewind(&mut file)?;
    let mut micros = Vec::new();
    for turn in 0..SYNCS {
        file.write_all(&[u8::try_from(turn).unwrap_or_default(); PIECE])?;
        let begun = Instant::now();
        file.sync_data()?;
        micros.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(micros)
}

#[cfg(target_os = "linux")]
fn direct_io(path: &Path) -> bool {
    const O_DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    OpenOptions::new().create_new(true).write(true).custom_flags(O_DIRECT).open(path).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn direct_io(_: &Path) -> bool {
    false
}

impl FileSystem {
    pub(super) fn tell(&self, text: &mut Text<'_>) -> io::Result<()> {
        let Self { hard_links, reflinks, punch_holes, locks, direct_io, .. } = *self;
        let can = [
            (hard_links, "hard links"),
            (reflinks, "reflinks"),
            (punch_holes, "holes"),
            (locks, "locks"),
            (direct_io, "direct I/O"),
        ];
        let names = |wanted: bool| {
            can.iter().filter(|(can, _)| *can == wanted).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
        };
        text.field("file system", names(true))?;
        if !names(false).is_empty() {
            text.field("it lacks", names(false))?;
        }
        text.field("sync", format_args!("{} us (p50), {} us (p95)", self.sync_micros, self.sync_micros_p95))
    }
}
