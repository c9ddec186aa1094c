//! Bases: all that is known at one place of the log, so that what comes before it need not be read, nor kept.
//!
//! # Writing one, step by step
//!
//! The caller has a history and the place in the log behind the last record in it. Commits go on meanwhile.
//!
//! 1. base and copy under temporary names, a megabyte at a time, each synced. A crash leaves the temporary names;
//! 2. a look whether this process still has the store; base and copy get their names, which no other file ever had; sync of
//!    the directory. A crash leaves one of them, or both: either is enough;
//! 3. another look. Then older bases are removed, and the logs before the one in which the base stands: only files that
//!    were listed before the look of step 2. A crash leaves some of them to the next base.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{history::History, log::Owner};
use crate::{
    disk::{DirEntry, file::VolumeFile, layout, publish::TempFile, volume::Volume},
    error::{Error, Malformed, Result},
    format::{
        base::{self, BLOCK, Blocks, Header, decode_block, decode_header, encode_header, place},
        log::{LogId, Position},
        record::Marks,
    },
    id::StoreId,
    manifest::Manifest,
};

/// After this many bytes they are synced, so that a commit never waits for more.
const PIECE: u64 = 1 << 20;
/// A header and more: that of a newer version may be longer.
const HEAD: u64 = 512;

/// The generation and the number of a base.
pub(super) type Name = (u64, u64);

/// A base that was found, and its copy.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) header: Header,
    headers_are_twice: bool,
    base: Option<VolumeFile>,
    copy: Option<VolumeFile>,
}

/// What a base said.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) history: History,
    /// How many blocks, the header among them, are whole in one of two files alone.
    pub(super) once: usize,
    /// How many bytes its records have.
    pub(super) len: u64,
}

/// Writes a base and its copy, durably; then removes what it makes superfluous: the logs before the one in which it
/// stands, and older bases. What cannot be removed is remembered by the volume. Returns how many bytes its records have.
///
/// # Errors
///
/// Those of the owner and of the file system. What was there before is still there.
pub(super) fn write(volume: &Arc<Volume>, header: &Header, history: &History, owner: &impl Owner) -> Result<u64> {
    let (both, len) = write_both(volume, header, history)?;
    // Nothing goes that was made after the last look at the owner: it may be of a later one.
    let there = volume.list(layout::MANIFESTS)?;
    owner.check()?;
    name_both(volume, header, both)?;
    owner.check()?;
    for entry in there.iter().filter(|entry| is_superseded(entry, header)) {
        let _ = volume.discard(&Path::new(layout::MANIFESTS).join(&entry.name));
    }
    Ok(len)
}

/// Writes the base of an export and its copy, durably: an export has no log. Returns how many bytes both have together.
pub(crate) fn write_export(volume: &Arc<Volume>, manifest: &Manifest, generation: u64) -> Result<u64> {
    let operation = format!("export checkpoint {}", manifest.id);
    let salt = || getrandom::u64().map_err(|e| Error::invalid(&*operation, e.to_string()));
    let (store, id) = (manifest.store, manifest.id.get());
    // A log that goes on from here says so by this salt.
    let position = Position { log: LogId { generation: 0, sequence: 0 }, salt: salt()?.max(1), offset: 0, number: 0 };
    let mut history = History::new(store);
    history.note_published(manifest, Marks::default()).map_err(|error| error.at(&*operation, volume.root()))?;
    let header = &Header { store, generation, sequence: 1, salt: salt()?, position, id_floor: id, reserved_ids: id };
    let (both, _) = write_both(volume, header, &history)?;
    let len = both.iter().map(|file| file.file().len()).sum::<Result<u64>>()?;
    name_both(volume, header, both)?;
    Ok(len)
}

fn name_both(volume: &Volume, header: &Header, [base, copy]: [TempFile; 2]) -> Result<()> {
    base.publish(&layout::base(header.generation, header.sequence))?;
    copy.publish(&layout::base_copy(header.generation, header.sequence))?;
    volume.sync_dir(layout::MANIFESTS)
}

fn is_superseded(entry: &DirEntry, header: &Header) -> bool {
    let log = layout::parse_log(&entry.name).map(|(generation, sequence)| LogId { generation, sequence });
    let base = name_of(entry);
    log.is_some_and(|log| log < header.position.log)
        || base.is_some_and(|base| base < (header.generation, header.sequence))
}

/// The base that an entry is, or is the copy of.
fn name_of(entry: &DirEntry) -> Option<Name> {
    layout::parse_base(&entry.name).or_else(|| layout::parse_base_copy(&entry.name))
}

/// Both files, under temporary names, synced; and how many bytes their records have.
fn write_both(volume: &Arc<Volume>, header: &Header, history: &History) -> Result<([TempFile; 2], u64)> {
    let temp = || TempFile::create(volume, layout::MANIFESTS.as_ref());
    let both = [temp()?, temp()?];
    let files = || both.iter().map(TempFile::file);
    files().try_for_each(|file| file.write_all_at(&encode_header(header), 0))?;
    let mut since = 0;
    let mut write = |block: u32, bytes: &[u8]| {
        files().try_for_each(|file| file.write_all_at(bytes, place(block)))?;
        since += bytes.len() as u64;
        if since >= PIECE {
            since = 0;
            files().try_for_each(VolumeFile::sync)?;
        }
        Ok::<_, Error>(())
    };
    let (mut blocks, mut len) = (Blocks::new(header), 0);
    for record in history.records() {
        let record = record.ok_or_else(|| Error::invalid("write a base", "a checkpoint is in more than 2^32 files"))?;
        len += record.len() as u64;
        blocks.add(&record, &mut write)?;
    }
    blocks.finish(&mut write)?;
    files().try_for_each(VolumeFile::sync)?;
    Ok((both, len))
}

/// Finds every base that has a header, or whose copy has one; and the generation and the number of those without one.
///
/// # Errors
///
/// `is_newer_format` if a newer version wrote one of them. Errors that say nothing of a file.
pub(super) fn find(volume: &Volume, store: StoreId) -> Result<(Vec<Found>, Vec<Name>)> {
    let entries = volume.list(layout::MANIFESTS)?;
    let names: BTreeSet<_> = entries.iter().filter_map(name_of).collect();
    let (mut all, mut bad) = (Vec::new(), Vec::new());
    for (generation, sequence) in names {
        let base = open(volume, &layout::base(generation, sequence));
        let copy = open(volume, &layout::base_copy(generation, sequence));
        // A damaged header may look like that of a newer version, as long as the other one does not say otherwise.
        let (base, copy) = match (base, copy) {
            (Err(error), Ok(copy)) if error.is_newer_format() && copy.header().is_some() => (Opened(None), copy),
            (Ok(base), Err(error)) if error.is_newer_format() && base.header().is_some() => (base, Opened(None)),
            (base, copy) => (base?, copy?),
        };
        let (base_header, copy_header) = (base.header(), copy.header());
        let is_this =
            |header: &Header| (header.store, header.generation, header.sequence) == (store, generation, sequence);
        match base_header.filter(is_this).or(copy_header.filter(is_this)) {
            Some(header) => {
                let headers_are_twice = base_header == copy_header;
                all.push(Found { header, headers_are_twice, base: base.file(), copy: copy.file() });
            }
            None => bad.push((generation, sequence)),
        }
    }
    all.sort_by_key(|found| {
        let Header { position, generation, sequence, .. } = found.header;
        Reverse((position.log, position.number, generation, sequence))
    });
    Ok((all, bad))
}

/// The store that the bases belong to, whatever store that is.
///
/// # Errors
///
/// Those of [`find`].
pub(super) fn store_of_bases(volume: &Volume) -> Result<Option<StoreId>> {
    let mut store = None;
    for entry in volume.list(layout::MANIFESTS)? {
        if name_of(&entry).is_some() {
            let header = open(volume, &Path::new(layout::MANIFESTS).join(&entry.name))?.header();
            store = header.map(|header| header.store).or(store);
        }
    }
    Ok(store)
}

/// A file, and its header if it has one.
struct Opened(Option<(VolumeFile, Option<Header>)>);

impl Opened {
    fn header(&self) -> Option<Header> {
        self.0.as_ref().and_then(|(_, header)| *header)
    }

    fn file(self) -> Option<VolumeFile> {
        self.0.map(|(file, _)| file)
    }
}

fn open(volume: &Volume, path: &Path) -> Result<Opened> {
    let read = || -> Result<_> {
        let file = volume.open(path)?;
        let bytes = file.read(0, file.len()?.min(HEAD))?;
        match decode_header(&bytes) {
            Err(error) if error.newer.is_some() => Err(error.at("read base", file.path())),
            header => Ok((file, header.ok())),
        }
    };
    // A verdict takes a second look.
    let first = read();
    match if matches!(first, Ok((_, Some(_)))) { first } else { read() } {
        Err(error) if !error.is_verdict() => Err(error),
        read => Ok(Opened(read.ok())),
    }
}

impl Found {
    /// Whether base and copy are both there. A crash may leave one of them.
    pub(super) fn has_copy(&self) -> bool {
        self.base.is_some() && self.copy.is_some()
    }

    /// The files that are there.
    pub(super) fn names(&self) -> Vec<PathBuf> {
        let Header { generation, sequence, .. } = self.header;
        let base = self.base.as_ref().map(|_| layout::base(generation, sequence));
        let copy = self.copy.as_ref().map(|_| layout::base_copy(generation, sequence));
        base.into_iter().chain(copy).collect()
    }

    pub(super) fn position(&self) -> Position {
        self.header.position
    }

    /// Reads all of it, each block from the base or from the copy.
    ///
    /// # Errors
    ///
    /// What is damaged in both.
    pub(super) fn load(&self) -> Result<std::result::Result<Loaded, Malformed>> {
        let both = self.has_copy();
        let (mut contents, mut once) = (Vec::new(), usize::from(both && !self.headers_are_twice));
        for block in 0.. {
            let read = [&self.base, &self.copy].map(|file| self.read_block(file.as_ref(), block));
            let [base, copy] = read;
            let (base, copy) = (base?, copy?);
            once += usize::from(both && base != copy);
            let Some((content, is_last)) = base.or(copy) else {
                return Ok(Err(Malformed::new(
                    place(block),
                    format!("block {block} is damaged, and in the copy as well"),
                )));
            };
            contents.extend_from_slice(&content);
            if is_last {
                break;
            }
        }
        let mut history = History::new(self.header.store);
        let applied = base::records(&contents).try_for_each(|record| history.apply(record?));
        history.raise_floor(self.header.id_floor);
        Ok(applied.map(|()| Loaded { history, once, len: contents.len() as u64 }))
    }

    fn read_block(&self, file: Option<&VolumeFile>, block: u32) -> Result<Option<(Vec<u8>, bool)>> {
        let Some(file) = file else { return Ok(None) };
        let read = || {
            let len = file.len()?.saturating_sub(place(block)).min(BLOCK as u64);
            file.read(place(block), len)
        };
        match read().or_else(|_| read()) {
            Ok(bytes) => {
                let content = decode_block(self.header.tag(), block, &bytes).ok();
                Ok(content.map(|(content, is_last)| (content.to_vec(), is_last)))
            }
            Err(error) if !error.is_verdict() => Err(error),
            Err(_) => Ok(None),
        }
    }
}
