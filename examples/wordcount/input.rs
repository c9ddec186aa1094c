//! The input: which files, who counts which of them, and reading them.

use std::{
    cmp::Reverse,
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use walkdir::{DirEntry, WalkDir};

use crate::{
    Failure,
    words::{fnv1a, fnv1a_more},
};

/// A file, and how long it was when the run began. What is appended later is not counted.
#[derive(Clone, Debug)]
pub(crate) struct InputFile {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

/// Reads one file from some offset to the length it had.
#[derive(Debug)]
pub(crate) struct InputReader<'a> {
    input: &'a InputFile,
    file: File,
    offset: u64,
}

/// All files of these paths but the excluded ones, always in the same order. As with `cat`, a file that is named twice
/// counts twice.
pub(crate) fn list(paths: &[PathBuf], excluded: &[PathBuf]) -> Result<Vec<InputFile>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        // The fingerprint needs names that do not depend on the current directory.
        let root = path.canonicalize().map_err(|error| at(path, error))?;
        let wanted = |entry: &DirEntry| !is_skipped(entry) && !excluded.iter().any(|path| path == entry.path());
        for entry in WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(wanted) {
            let entry = entry?;
            if entry.file_type().is_file() {
                let len = entry.metadata()?.len();
                files.push(InputFile { path: entry.into_path(), len });
            }
        }
    }
    Ok(files)
}

/// Hidden directories and build output; not if the user named them.
fn is_skipped(entry: &DirEntry) -> bool {
    let name = entry.file_name().as_encoded_bytes();
    entry.depth() > 0 && entry.file_type().is_dir() && (name.starts_with(b".") || name == b"target")
}

pub(crate) fn total_len(files: &[InputFile]) -> u64 {
    files.iter().map(|file| file.len).sum()
}

/// Differs if any path or length differs: a state must only be continued with the input it was begun with.
pub(crate) fn fingerprint(files: &[InputFile]) -> u64 {
    files.iter().fold(fnv1a(b"input"), |hash, file| {
        let hash = fnv1a_more(hash, file.path.as_os_str().as_encoded_bytes());
        // No path has a zero byte, so that where it ends cannot be mistaken.
        fnv1a_more(fnv1a_more(hash, &[0]), &file.len.to_le_bytes())
    })
}

/// Gives each worker its files, about the same number of bytes each: the largest file goes first, and each to who has
/// least. The same files and workers always give the same shares, as positions are positions in a share.
pub(crate) fn shares(files: &[InputFile], workers: usize) -> Vec<Vec<InputFile>> {
    let mut largest_first: Vec<_> = files.iter().collect();
    largest_first.sort_by_key(|file| Reverse(file.len));
    let mut shares = vec![(0, Vec::new()); workers];
    for file in largest_first {
        if let Some((len, share)) = shares.iter_mut().min_by_key(|(len, _)| *len) {
            *len += file.len;
            share.push(file.clone());
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

impl InputFile {
    pub(crate) fn open_at(&self, offset: u64) -> Result<InputReader<'_>, Failure> {
        let open = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        };
        let file = open().map_err(|error: std::io::Error| at(&self.path, error))?;
        Ok(InputReader { input: self, file, offset })
    }
}

impl InputReader<'_> {
    /// Reads some bytes; 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let InputFile { path, len } = self.input;
        let left = len.saturating_sub(self.offset);
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if room == 0 {
            return Ok(0);
        }
        let read = loop {
            match self.file.read(&mut buffer[..room]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result.map_err(|error| at(path, error))?,
            }
        };
        if read == 0 {
            let offset = self.offset;
            return Err(at(path, format!("it ends at byte {offset}, but had {len} bytes when the run began")));
        }
        self.offset += read as u64;
        Ok(read)
    }
}

/// Says which file an error is about.
pub(crate) fn at(path: &Path, error: impl std::fmt::Display) -> Failure {
    format!("{}: {error}", path.display()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(lens: &[u64]) -> Vec<InputFile> {
        lens.iter().enumerate().map(|(n, len)| InputFile { path: format!("/{n}").into(), len: *len }).collect()
    }

    #[test]
    fn shares_are_balanced_and_complete() {
        let lens = |share: &Vec<InputFile>| share.iter().map(|file| file.len).collect::<Vec<_>>();
        let shares = shares(&files(&[1, 9, 4, 5, 3]), 3);
        assert_eq!(shares.iter().map(lens).collect::<Vec<_>>(), [vec![9], vec![5, 1], vec![4, 3]]);
    }

    #[test]
    fn fingerprint_knows_paths_and_lengths() {
        let original = files(&[1, 2]);
        let mut renamed = original.clone();
        renamed[1].path = "/other".into();
        let all = [&original, &renamed, &files(&[2, 1]), &files(&[1]), &files(&[])];
        let distinct: std::collections::HashSet<_> = all.iter().map(|files| fingerprint(files)).collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(fingerprint(&original), fingerprint(&files(&[1, 2])));
    }

    #[test]
    fn list_skips_what_it_should_and_short_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["b", ".hidden-file", "sub/a", "sub/target/x", ".git/x", "state/x"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        std::os::unix::fs::symlink(root.join("b"), root.join("link")).unwrap();
        let found = list(std::slice::from_ref(&root), &[root.join("state")]).unwrap();
        let names: Vec<_> = found.iter().map(|file| file.path.strip_prefix(&root).unwrap()).collect();
        assert_eq!(names, [Path::new(".hidden-file"), Path::new("b"), Path::new("sub/a")]);

        std::fs::write(root.join("b"), "").unwrap();
        let error = found[1].open_at(0).unwrap().read(&mut [0; 8]).unwrap_err();
        assert!(error.to_string().ends_with("b: it ends at byte 0, but had 1 bytes when the run began"));
    }
}
