//! Every name under the root. Only names that are made here are ever parsed or deleted.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::{TEMP_PREFIX, TEMP_RANDOM};
use crate::id::{CheckpointId, FileId, LAST, LAST_MEMBER, Scope};

/// The identity of the store.
pub(crate) const IDENTITY: &str = "piton.store";
/// The file whose lock the writing process holds.
pub(crate) const LOCK: &str = "piton.lock";
/// An empty file. Whoever reads a checkpoint locks the byte with the number of its id.
pub(crate) const READERS: &str = "piton.readers";
/// How the name of the file begins that stands for a member.
const MEMBER_PREFIX: &str = "piton.member-";
/// Blocks without content, kept for when the disk is full.
pub(crate) const SPARE: &str = "piton.spare";
/// The directory of the manifest log.
pub(crate) const MANIFESTS: &str = "manifests";
/// What an export has until it is complete. Beside an identity it means nothing.
pub(crate) const PARTIAL: &str = "piton.partial";
/// What a store has that is to go, because its checkpoint was taken over.
pub(crate) const DEPARTING: &str = "piton.departing";
/// The directories under the root, that of the log last.
pub(crate) const DIRS: [&str; 3] = ["shared", "exclusive", MANIFESTS];

const LOG_SUFFIX: &str = ".log";
const BASE_SUFFIX: &str = ".base";
const COPY_SUFFIX: &str = ".copy";
const SEGMENT_SUFFIX: &str = ".seg";

/// The directory of the data files of a scope.
pub(crate) fn scope_dir(scope: Scope) -> &'static Path {
    match scope {
        Scope::Exclusive => Path::new("exclusive"),
        Scope::Shared => Path::new("shared"),
    }
}

/// A text that leads to a checkpoint: of this only the first part is on disk.
pub(crate) fn checkpoint(root: &Path, id: CheckpointId) -> PathBuf {
    root.join(format!("{:020}", id.get()))
}

/// Path of a log, by its generation and its number there.
pub(crate) fn log(generation: u64, sequence: u64) -> PathBuf {
    of_generation(generation, sequence, LOG_SUFFIX)
}

/// Path of a base, by its generation and its number there.
pub(crate) fn base(generation: u64, sequence: u64) -> PathBuf {
    of_generation(generation, sequence, BASE_SUFFIX)
}

/// Path of the copy of a base.
pub(crate) fn base_copy(generation: u64, sequence: u64) -> PathBuf {
    of_generation(generation, sequence, COPY_SUFFIX)
}

fn of_generation(generation: u64, sequence: u64, suffix: &str) -> PathBuf {
    Path::new(MANIFESTS).join(format!("{generation:08}-{sequence:010}{suffix}"))
}

/// Where a data file is that may be in somebody else's store, under this root and with this name there.
pub(crate) fn data_file(file: FileId, lent: Option<(&Path, FileId)>) -> PathBuf {
    lent.map_or_else(|| segment(file), |(root, there)| root.join(segment(there)))
}

/// Where a data file is.
pub(crate) fn segment(file: FileId) -> PathBuf {
    scope_dir(file.scope).join(segment_name(file))
}

fn segment_name(file: FileId) -> String {
    let FileId { generation, lane, sequence, .. } = file;
    format!("{generation:08}-{lane:03}-{sequence:010}{SEGMENT_SUFFIX}")
}

/// The file that stands for a member, by the generation that admitted it and its number there.
pub(crate) fn member(generation: u64, member: u32) -> PathBuf {
    PathBuf::from(format!("{MEMBER_PREFIX}{generation:08}-{member:05}"))
}

/// The generation and the number of the member that a file with this name stands for.
pub(crate) fn parse_member(name: &OsStr) -> Option<(u64, u32)> {
    let (generation, number) = name.to_str()?.strip_prefix(MEMBER_PREFIX)?.split_once('-')?;
    let generation = generation.parse().ok().filter(|generation| (1..=LAST).contains(generation))?;
    let number = number.parse().ok().filter(|number| (1..=LAST_MEMBER).contains(number))?;
    (member(generation, number) == Path::new(name)).then_some((generation, number))
}

/// The checkpoint that the last part of such a text stands for.
pub(crate) fn parse_checkpoint(name: &OsStr) -> Option<CheckpointId> {
    let id = CheckpointId::new(name.to_str()?.parse().ok()?)?;
    (checkpoint(Path::new(""), id) == Path::new(name)).then_some(id)
}

/// The generation and the number of the log that has this name.
pub(crate) fn parse_log(name: &OsStr) -> Option<(u64, u64)> {
    parse_of_generation(name, LOG_SUFFIX)
}

/// The generation and the number of the base that has this name.
pub(crate) fn parse_base(name: &OsStr) -> Option<(u64, u64)> {
    parse_of_generation(name, BASE_SUFFIX)
}

/// The generation and the number of the base whose copy has this name.
pub(crate) fn parse_base_copy(name: &OsStr) -> Option<(u64, u64)> {
    parse_of_generation(name, COPY_SUFFIX)
}

fn parse_of_generation(name: &OsStr, suffix: &str) -> Option<(u64, u64)> {
    let (generation, sequence) = name.to_str()?.strip_suffix(suffix)?.split_once('-')?;
    let number = |digits: &str, last: u64| digits.parse().ok().filter(|number| (1..=last).contains(number));
    // No store gets as far as the half of all generations: such a name is another's, and must not use up all that are left.
    let (generation, sequence) = (number(generation, LAST / 2)?, number(sequence, LAST)?);
    (of_generation(generation, sequence, suffix).file_name() == Some(name)).then_some((generation, sequence))
}

/// The data file that has this name in the directory of this scope.
pub(crate) fn parse_segment(scope: Scope, name: &OsStr) -> Option<FileId> {
    let name = name.to_str()?;
    let mut parts = name.strip_suffix(SEGMENT_SUFFIX)?.splitn(3, '-');
    let generation = parts.next()?.parse().ok().filter(|generation| *generation <= LAST)?;
    let lane = parts.next()?.parse().ok()?;
    let sequence = parts.next()?.parse().ok()?;
    let file = FileId { scope, generation, lane, sequence };
    (segment_name(file) == name).then_some(file)
}

/// Whether this is the path of a data file.
pub(crate) fn is_segment(path: &Path) -> bool {
    path.file_name().is_some_and(|name| parse_segment(Scope::Shared, name).is_some())
}

/// Whether this is the name of a log, of a base, or of the copy of one.
pub(crate) fn is_of_log(name: &OsStr) -> bool {
    [parse_log, parse_base, parse_base_copy].iter().any(|parse| parse(name).is_some())
}

/// Whether a store makes such a name in one of its directories.
pub(crate) fn is_ours(name: &OsStr) -> bool {
    is_of_log(name) || is_temp(name) || parse_segment(Scope::Shared, name).is_some()
}

/// Whether a disk gives out this name for temporary files.
pub(crate) fn is_temp(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.strip_prefix(TEMP_PREFIX))
        .is_some_and(|rest| rest.len() == TEMP_RANDOM && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_only_their_one_form_is_ours() {
        for number in [1, 42, LAST] {
            let id = CheckpointId::new(number).unwrap();
            assert_eq!(parse_checkpoint(checkpoint(Path::new("/s"), id).file_name().unwrap()), Some(id));
            let number = number.min(LAST / 2);
            for (name, parse) in [
                (log(number, number), parse_log as fn(&OsStr) -> _),
                (base(number, number), parse_base),
                (base_copy(number, number), parse_base_copy),
            ] {
                assert_eq!(parse(name.file_name().unwrap()), Some((number, number)));
                assert!(is_ours(name.file_name().unwrap()));
            }
            let file = FileId { scope: Scope::Shared, generation: number, lane: u16::MAX, sequence: number };
            assert_eq!(parse_segment(Scope::Shared, segment(file).file_name().unwrap()), Some(file));
        }
        for foreign in ["7", "18446744073709551615", "+0000000000000000007", "00000000000000000000", "x"] {
            assert_eq!(parse_checkpoint(OsStr::new(foreign)), None, "{foreign}");
        }
        for foreign in ["1-1.log", "00000000-0000000001.log", "00000001-0000000000.log", "00000001-0000000001.base"] {
            assert_eq!(parse_log(OsStr::new(foreign)), None, "{foreign}");
        }
        for foreign in ["1-0-1.seg", "00000001-000-0000000001", "00000001-000-+000000001.seg", "a-b-c.seg", ".seg"] {
            assert_eq!(parse_segment(Scope::Shared, OsStr::new(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn temporary_names_of_others_are_not_ours() {
        assert!(is_temp(OsStr::new(".tmp-0123456789aZ")));
        for foreign in [".tmp-", ".tmp-0123", ".tmp-0123456789aZx", ".tmp-0123456789a!", "tmp-0123456789aZ"] {
            assert!(!is_temp(OsStr::new(foreign)), "{foreign}");
        }
    }
}
