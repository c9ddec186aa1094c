//! Custom storage: a disk that encrypts every file, with an existing cipher.
//!
//! ```text
//! cargo run --release --features testing --example custom_disk -- DIRECTORY PASSPHRASE
//! ```
//!
//! Takes a checkpoint in an encrypted store, looks for its bytes in the files, where they must not be, and reads it back.
//! The test of this example, and `main` before anything else, let the conformance kit check the disk.
//!
//! # How it works
//!
//! A file begins with a random nonce of 24 bytes; what follows is the content, combined with the `XChaCha20` keystream of
//! key and nonce. A stream cipher is enough, because the store asks little of a disk: it reads and writes at offsets, and never
//! changes what it has written. (Two contents under one keystream would tell their difference to whoever sees both.) It
//! keeps secrets; that somebody changes bits it does not notice, and piton's checksums find accidents, not attackers. With
//! another passphrase everything looks damaged: nothing is removed then, as long as nobody lets it be "repaired".
//!
//! Zeros are a content as well. So the manifest log, which is written into later, must not be filled with them: this disk
//! leaves [`DiskFile::fill`] out. And what lies between the end of a file and a write behind it stays a hole, by whole
//! sectors: a sector without a bit in it was never written, and reads as zeros.
//!
//! What cannot work on encrypted bytes is left to the defaults of [`Disk`]: holes, which would not read as zeros, and copying
//! between files of different nonces. The store rewrites and copies by itself then. Linking works: the nonce goes with the
//! file. A mapping is a decrypted copy.
#![expect(clippy::disallowed_methods, reason = "the crate does its file calls in one place; an example has its own")]

use std::{
    env,
    ffi::OsString,
    fmt,
    io::{self, ErrorKind, Write},
    path::Path,
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use chacha20::{
    XChaCha20,
    cipher::{KeyIvInit, StreamCipher, StreamCipherSeek},
};
use parking_lot::Mutex;
use piton::{
    Manifest, Scope,
    contract::{CheckpointStorage, CustomStorage},
    disk::{At, Dir, DirEntry, Disk, DiskFile, FileKind, Lock, Mapping, Metadata, OsDisk},
    testing::conformance,
};
use sha2::{Digest, Sha256};

type Key = [u8; 32];
type Nonce = [u8; 24];

/// The length of the nonce at the beginning of each file.
const HEADER: u64 = 24;
/// A sector of the content is written as a whole, or is a hole.
const SECTOR: usize = 512;

/// Encrypts the files of another disk.
#[derive(Clone)]
struct EncryptedDisk<D> {
    disk: D,
    key: Key,
}

struct EncryptedFile {
    file: Box<dyn DiskFile>,
    key: Key,
    /// Once it is known: an empty file has none.
    nonce: OnceLock<Nonce>,
    /// Held by the one that writes: where a gap is, and that there is no nonce yet, must stay so until it has written.
    writing: Mutex<()>,
}

impl<D: Disk> EncryptedDisk<D> {
    /// Whoever has little entropy in a passphrase should use a function that is made for passwords here.
    fn new(disk: D, passphrase: &str) -> Self {
        Self { disk, key: Sha256::digest(passphrase.as_bytes()).into() }
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(EncryptedFile { file, key: self.key, nonce: OnceLock::new(), writing: Mutex::new(()) })
    }
}

fn without_header(metadata: Metadata) -> Metadata {
    match metadata.kind {
        FileKind::File => Metadata { len: metadata.len.saturating_sub(HEADER), ..metadata },
        _ => metadata,
    }
}

impl<D: Disk> Disk for EncryptedDisk<D> {
    fn open_dir(&self, at: At<'_>) -> io::Result<Dir> {
        self.disk.open_dir(at)
    }

    fn is_dir(&self, at: At<'_>, dir: &Dir) -> io::Result<bool> {
        self.disk.is_dir(at, dir)
    }

    fn create_dir(&self, path: At<'_>) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, path: At<'_>) -> io::Result<Vec<DirEntry>> {
        let entries = self.disk.list(path)?.into_iter();
        Ok(entries.map(|entry| DirEntry { metadata: without_header(entry.metadata), ..entry }).collect())
    }

    fn metadata(&self, path: At<'_>) -> io::Result<Metadata> {
        self.disk.metadata(path).map(without_header)
    }

    fn create_temp(&self, dir: At<'_>) -> io::Result<(OsString, Box<dyn DiskFile>)> {
        let (name, file) = self.disk.create_temp(dir)?;
        Ok((name, self.file(file)))
    }

    fn open(&self, path: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path).map(|file| self.file(file))
    }

    fn open_writable(&self, path: At<'_>) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open_writable(path).map(|file| self.file(file))
    }

    fn rename(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn rename_new(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.disk.rename_new(from, to)
    }

    fn remove(&self, path: At<'_>) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn link(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn can_link(&self, from: At<'_>, dir: At<'_>) -> bool {
        self.disk.can_link(from, dir)
    }

    /// All bytes, and the nonce with them: what is empty here is empty there.
    fn reflink(&self, from: At<'_>, to: At<'_>) -> io::Result<()> {
        self.disk.reflink(from, to)
    }

    fn remove_dir(&self, path: At<'_>) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn sync_dir(&self, path: At<'_>) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    /// The owner in it is for people, and is not encrypted.
    fn try_lock(&self, path: At<'_>, owner: &str) -> io::Result<Lock> {
        self.disk.try_lock(path, owner)
    }

    fn lock_shared(&self, path: At<'_>, number: u64) -> io::Result<Lock> {
        self.disk.lock_shared(path, number)
    }

    fn lock_exclusive(&self, path: At<'_>, number: u64) -> io::Result<Lock> {
        self.disk.lock_exclusive(path, number)
    }
}

impl EncryptedFile {
    /// The nonce, if the file has one.
    fn nonce(&self) -> io::Result<Option<Nonce>> {
        if let Some(nonce) = self.nonce.get() {
            return Ok(Some(*nonce));
        }
        let mut nonce = Nonce::default();
        let mut read = 0;
        while read < nonce.len() {
            match self.file.read_at(&mut nonce[read..], read as u64)? {
                0 => return Ok(None),
                more => read += more,
            }
        }
        Ok(Some(*self.nonce.get_or_init(|| nonce)))
    }

    /// The nonce, which the file gets now if it has none.
    fn nonce_for_writing(&self) -> io::Result<Nonce> {
        if let Some(nonce) = self.nonce()? {
            return Ok(nonce);
        }
        let mut nonce = Nonce::default();
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        write_all(&*self.file, &nonce, 0)?;
        Ok(*self.nonce.get_or_init(|| nonce))
    }

    /// Encrypts and decrypts: with a keystream that is the same.
    fn apply(&self, nonce: &Nonce, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut cipher = XChaCha20::new(&self.key.into(), &(*nonce).into());
        let end = || io::Error::new(ErrorKind::FileTooLarge, "the keystream ends here");
        cipher.try_seek(offset).map_err(|_| end())?;
        cipher.try_apply_keystream(bytes).map_err(|_| end())
    }

    /// What shares a sector with bytes that are about to be written, and was never written, gets zeros: encrypted ones. Piton
    /// writes nothing there later.
    fn fill_sectors(&self, nonce: &Nonce, offset: u64, end: u64) -> io::Result<()> {
        let len = self.len()?;
        let gap = len.min(offset);
        let first_end = offset.min(gap.next_multiple_of(SECTOR as u64));
        let before = sector_of(offset);
        for (start, end) in
            [(len, first_end), (before.max(first_end), offset), (end, end.next_multiple_of(SECTOR as u64))]
        {
            let end = if start >= offset { end.min(len) } else { end };
            if start < end && (start >= len || self.is_hole(sector_of(start))?) {
                let mut zeros = vec![0; usize::try_from(end - start).unwrap_or_default()];
                self.apply(nonce, &mut zeros, start)?;
                write_all(&*self.file, &zeros, HEADER + start)?;
            }
        }
        Ok(())
    }

    /// Whether a whole sector was never written. One that the file ends in was.
    fn is_hole(&self, sector: u64) -> io::Result<bool> {
        let mut bytes = [0; SECTOR];
        Ok(self.read_raw(&mut bytes, sector)? == bytes.len() && bytes.iter().all(|byte| *byte == 0))
    }

    fn read_raw(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], HEADER.saturating_add(offset + read as u64)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

/// Where the sector of a byte begins.
fn sector_of(offset: u64) -> u64 {
    offset / SECTOR as u64 * SECTOR as u64
}

fn write_all(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], offset + written as u64) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl DiskFile for EncryptedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(nonce) = self.nonce()? else { return Ok(0) };
        // Whole sectors: only those tell whether they were written.
        let start = sector_of(offset);
        let skip = usize::try_from(offset - start).unwrap_or_default();
        let mut sectors = vec![0; (skip + buffer.len()).next_multiple_of(SECTOR)];
        let read = self.read_raw(&mut sectors, start)?;
        for (sector, at) in sectors[..read].chunks_mut(SECTOR).zip((start..).step_by(SECTOR)) {
            if sector.len() < SECTOR || sector.iter().any(|byte| *byte != 0) {
                self.apply(&nonce, sector, at)?;
            }
        }
        let found = sectors.get(skip..read).unwrap_or_default();
        let found = &found[..found.len().min(buffer.len())];
        buffer[..found.len()].copy_from_slice(found);
        Ok(found.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let _alone = self.writing.lock();
        let nonce = self.nonce_for_writing()?;
        self.fill_sectors(&nonce, offset, offset + bytes.len() as u64)?;
        let mut encrypted = bytes.to_vec();
        self.apply(&nonce, &mut encrypted, offset)?;
        self.file.write_at(&encrypted, HEADER + offset)
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(HEADER + offset, len);
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.len()?.saturating_sub(HEADER))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The bytes themselves: what is mapped must be decrypted.
    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        if offset.checked_add(len as u64).is_none_or(|end| self.len().is_ok_and(|len| end > len)) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; len];
        let mut read = 0;
        while read < len {
            match self.read_at(&mut bytes[read..], offset + read as u64) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(more) => read += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Mapping::from_bytes(bytes))
    }
}

/// Without the key.
impl<D: fmt::Debug> fmt::Debug for EncryptedDisk<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedDisk({:?})", self.disk)
    }
}

impl fmt::Debug for EncryptedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedFile({:?})", self.file)
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(directory), Some(passphrase)) = (arguments.next(), arguments.next()) else {
        let _ = writeln!(io::stderr(), "usage: custom_disk DIRECTORY PASSPHRASE");
        return ExitCode::from(2);
    };
    match run(Path::new(&directory), &passphrase) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "custom_disk: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path, passphrase: &str) -> Result<(), Box<dyn std::error::Error>> {
    let disk = EncryptedDisk::new(OsDisk, passphrase);
    let scratch = tempfile::tempdir()?;
    conformance::check(&disk, &scratch.path().join("conformance"));
    writeln!(io::stdout(), "the disk keeps its promises: {} tests", conformance::TESTS.len())?;

    // As a configuration has it: written down without the disk, which the engine attaches again.
    let storage = CustomStorage::new("xchacha20", directory, Arc::new(disk));
    let store = storage.open()?;
    let secret = b"a state that nobody is to see. ".repeat(1000);
    let pending = store.begin_next()?;
    let handle = pending.write(Scope::Shared, &secret)?;
    let checkpoint = pending.commit(Manifest::builder().state("secret", handle.clone()))?;
    assert_eq!(*checkpoint.read(&handle)?, *secret);

    let (mut files, mut bytes) = (0, 0);
    for entry in walkdir::WalkDir::new(store.root()) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let content = std::fs::read(entry.path())?;
            let seen = content.windows(30).any(|part| part == &secret[..30]);
            assert!(!seen, "{} tells the secret", entry.path().display());
            files += 1;
            bytes += content.len();
        }
    }
    let id = checkpoint.id();
    writeln!(io::stdout(), "checkpoint {id}: in {files} files of {bytes} bytes, and to be read in none of them")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use piton::{Options, disk::MemoryDisk};

    use super::*;

    #[test]
    fn encrypted_disk_keeps_the_promises_of_a_disk() {
        let dir = tempfile::tempdir().unwrap();
        conformance::check(&EncryptedDisk::new(OsDisk, "secret"), &dir.path().join("empty"));
        conformance::check(&EncryptedDisk::new(MemoryDisk::new(), "secret"), Path::new("/empty"));
    }

    #[test]
    fn store_is_read_with_its_passphrase_and_with_no_other() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), "secret").unwrap();
        let open = |passphrase| Options::new().disk(EncryptedDisk::new(OsDisk, passphrase)).open(dir.path());
        let checkpoint = open("secret").unwrap().latest().unwrap().unwrap();
        let handle = checkpoint.manifest().state("secret").unwrap();
        assert!(checkpoint.read(handle).unwrap().starts_with(b"a state that nobody is to see."));
        drop(checkpoint);
        assert!(open("another").unwrap_err().is_corrupt());
        assert_eq!(open("secret").unwrap().checkpoint_ids().len(), 1, "nothing was removed");
    }

    #[test]
    fn states_that_are_kept_and_thrown_away_take_no_more_than_they_should() {
        // Without holes the store has to rewrite.
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().disk(EncryptedDisk::new(OsDisk, "secret")).segment_size(100_000).retain(2);
        let store = options.open(dir.path()).unwrap();
        let mut states: Vec<_> = Vec::new();
        for round in 0..100_u8 {
            let pending = store.begin_next().unwrap();
            let mut kept = pending.reuse(&states).unwrap();
            if kept.len() == 40 {
                kept.remove(usize::from(round) * 7 % 40);
            }
            kept.push(pending.write(Scope::Shared, &[round; 4000]).unwrap());
            let named = kept.iter().enumerate();
            let manifest = named.fold(Manifest::builder(), |m, (n, handle)| m.state(n.to_string(), handle.clone()));
            pending.commit(manifest).unwrap();
            states = kept;
        }
        let usage = store.usage();
        assert!(usage.allocated_bytes < 3 * usage.logical_bytes + 200_000, "{usage:?}");
    }
}
