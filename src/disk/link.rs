//! A file in another directory: linked, else reflinked, else copied.
//!
//! A hard link is the same file under another name: it costs nothing, whatever is in it. Where there are none (another
//! file system, one without them, too many of one file) a reflink shares the bytes until one side changes them. Where
//! there are none either the bytes are copied, but only the ranges that somebody needs: the rest becomes a hole.
//!
//! Each falls back to the next on `EXDEV`, `EPERM`, `EMLINK` and `EOPNOTSUPP` alone: these say that it cannot be done
//! here. Any other error is one: a bad medium must not look like a file system without links.
//!
//! What is reflinked or copied is complete and synced before it gets its name. Who needs the name durable syncs the
//! directory. A crash leaves a temporary name, or the file under its name.

use std::{io, ops::Range, path::Path, sync::Arc};

use rustix::io::Errno;

use super::{file::VolumeFile, publish::TempFile, volume::Volume};
use crate::error::{Error, Result};

/// How much is copied at a time.
const PIECE: u64 = 1 << 20;
/// Ranges that are closer together than this are copied as one: a hole between them would save nothing.
const BLOCK: u64 = 4096;

/// How a data file came into another directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Way {
    /// It got a second name: a hard link. It takes no space.
    Linked,
    /// It shares the bytes until one side changes: a reflink. It takes no space for as long.
    Reflinked,
    /// The bytes that the checkpoint needs were copied, and compared with their checksums.
    Copied,
    /// Not at all: it stays where it is, and belongs to somebody else.
    Borrowed,
}

/// A file that is to be in another directory as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Original<'a> {
    pub(crate) volume: &'a Volume,
    /// Relative to the volume, or absolute.
    pub(crate) name: &'a Path,
    /// The bytes that are needed, in order.
    pub(crate) ranges: &'a [Range<u64>],
}

/// Whether an error says that something cannot be done here, and not that it went wrong.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, TooManyLinks, Unsupported};
    let refusals = [Errno::XDEV, Errno::PERM, Errno::MLINK, Errno::OPNOTSUPP, Errno::NOTSUP];
    match error.raw_os_error() {
        Some(code) => refusals.iter().any(|refusal| refusal.raw_os_error() == code),
        // Of a disk that is not the operating system's; `PermissionDenied` may be `EACCES`, which is an error.
        None => matches!(error.kind(), CrossesDevices | TooManyLinks | Unsupported),
    }
}

/// Puts a file under this name, which must be free. What `lock` gives is held while it is linked; without it is not. A copy
/// is looked at by `check` before it gets the name.
pub(crate) fn place<L>(
    from: Original<'_>,
    to: &Arc<Volume>,
    name: &Path,
    lock: impl FnOnce() -> Option<L>,
    check: impl FnOnce(&VolumeFile) -> Result<()>,
) -> Result<Way> {
    let same_disk = Arc::ptr_eq(from.volume.disk(), to.disk());
    if same_disk
        && let Some(_lock) = lock()
        && link(from.volume, from.name, to, name)?
    {
        return Ok(Way::Linked);
    }
    let temp = TempFile::create(to, name.parent().unwrap_or(Path::new("")))?;
    if same_disk && reflink(from.volume, from.name, &temp)? && temp.file().len()? >= from.end() {
        temp.file().sync()?;
        temp.publish(name)?;
        return Ok(Way::Reflinked);
    }
    // Over what a reflink may have put there that was too short.
    let ranges = coalesced(from.ranges);
    if !(same_disk && copy_ranges(from, &temp, &ranges)?) {
        copy(&from.volume.open(from.name)?, temp.file(), &ranges)?;
    }
    check(temp.file())?;
    temp.file().sync()?;
    temp.publish(name)?;
    Ok(Way::Copied)
}

impl Original<'_> {
    /// Behind the last byte that is needed.
    fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.end)
    }
}

/// Gives a file a second name; false if that cannot be done here.
pub(crate) fn link(from: &Volume, original: &Path, to: &Volume, name: &Path) -> Result<bool> {
    done(to.link(from, original, name), "link a file to", &to.path(name))
}

/// Lets an empty file share the bytes of another one; false if that cannot be done here.
pub(crate) fn reflink(from: &Volume, original: &Path, temp: &TempFile) -> Result<bool> {
    let Some(name) = temp.name() else { return Ok(false) };
    done(temp.volume().reflink(from, original, name), "reflink", &from.path(original))
}

/// Lets the operating system copy ranges of a file; false if that cannot be done here.
fn copy_ranges(from: Original<'_>, temp: &TempFile, ranges: &[Range<u64>]) -> Result<bool> {
    let Some(name) = temp.name() else { return Ok(false) };
    done(temp.volume().copy_ranges(from.volume, from.name, name, ranges), "copy", &from.volume.path(from.name))
}

/// Whether [`link`] can probably do that. Costs little.
pub(crate) fn can_link(to: &Volume, original: &Path, dir: &Path) -> bool {
    to.can_link(original, dir)
}

fn done(result: io::Result<()>, operation: &str, path: &Path) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_refused(&error) => Ok(false),
        Err(error) => Err(Error::io(operation, path, error)),
    }
}

/// The same ranges, with those joined that touch, or are in one block.
fn coalesced(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(BLOCK) => last.end = last.end.max(range.end),
            _ => joined.push(range.clone()),
        }
    }
    joined
}

fn copy(from: &VolumeFile, to: &VolumeFile, ranges: &[Range<u64>]) -> Result<()> {
    let mut piece = Vec::new();
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let len = PIECE.min(range.end - at);
            piece.resize(usize::try_from(len).unwrap_or_default(), 0);
            from.read_exact_at(&mut piece, at)?;
            to.write_all_at(&piece, at)?;
            to.start_writeback(at, len);
            at += len;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_four_errors_say_that_it_cannot_be_done() {
        for refusal in [Errno::XDEV, Errno::PERM, Errno::MLINK, Errno::OPNOTSUPP] {
            assert!(is_refused(&refusal.into()), "{refusal}");
        }
        assert!(is_refused(&io::ErrorKind::Unsupported.into()));
        for failure in [Errno::IO, Errno::ACCESS, Errno::NOSPC, Errno::ROFS, Errno::NOENT, Errno::EXIST, Errno::DQUOT] {
            assert!(!is_refused(&failure.into()), "{failure}");
        }
    }

    #[test]
    fn ranges_that_a_hole_would_not_part_are_copied_as_one() {
        let ranges = [0..64, 64..200, 4000..4100, 8196..8300, 20_000..20_001];
        assert_eq!(coalesced(&ranges), [0..8300, 20_000..20_001]);
        assert_eq!(coalesced(&[]), []);
    }
}
