//! `piton salvage`

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufWriter, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use piton::{
    CheckpointId, Manifest, StateDifference, StateHandle, StateName, disk::OsDisk, inspect::Inspection, list_segment,
};
use serde::Serialize;

use super::{Failure, inspect};
use crate::{
    Outcome, Verdict, address,
    output::{Output, Tone},
    progress, units,
};

/// The list of what was saved, in the directory.
const INDEX: &str = "index.jsonl";

#[derive(Debug, Default, Serialize)]
struct Salvaged {
    states: u64,
    bytes: u64,
    files: u64,
    /// Data files that nothing could be read from.
    unreadable: Vec<String>,
}

/// A line of the index.
#[derive(Debug, Serialize)]
struct Saved<'a> {
    /// Under the directory.
    file: &'a Path,
    /// The data file that it was in, and where.
    from: &'a Path,
    offset: u64,
    bytes: u64,
    crc32: String,
    /// The checkpoint that it was written for, which may never have been committed.
    written_for: CheckpointId,
    /// What checkpoints call it, as far as the manifest log is there.
    named: &'a [Named],
}

/// What checkpoints in a row call a state.
#[derive(Debug, Serialize)]
struct Named {
    state: String,
    oldest: CheckpointId,
    newest: CheckpointId,
}

type Names = HashMap<StateHandle, Vec<Named>>;

/// What states are called by the checkpoint that was looked at last, and the first one that called them so.
type Open = HashMap<(StateHandle, String), CheckpointId>;

pub(super) fn run(store: &Path, output: &Output, dir: &Path) -> Outcome {
    // Without any of the log there still are data files.
    let names = inspect(store).map(|inspection| names(&inspection)).unwrap_or_default();
    let sources = data_files(store)?;
    if sources.is_empty() {
        return Err(format!("there are no data files in {}", store.display()).into());
    }
    fs::create_dir(dir).map_err(|error| format!("make {}: {error}", dir.display()))?;
    let total = sources.iter().map(|source| source.metadata().map_or(0, |metadata| metadata.len())).sum();
    let bar = progress::bytes(output, "salvage", total);
    let mut index = BufWriter::new(File::create_new(dir.join(INDEX))?);
    let mut salvaged = Salvaged::default();
    for source in &sources {
        match list_segment(OsDisk, source) {
            Ok(entries) => {
                salvaged.files += 1;
                for entry in entries {
                    let name = names.get(&entry.handle).map(Vec::as_slice).unwrap_or_default();
                    let len = save(store, source, dir, &entry, name, &mut index)?;
                    salvaged.states += 1;
                    salvaged.bytes += len;
                }
            }
            Err(error) => salvaged.unreadable.push(error.to_string()),
        }
        bar.inc(source.metadata().map_or(0, |metadata| metadata.len()));
    }
    bar.finish_and_clear();
    index.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    output.answer(&salvaged, |text| {
        for error in &salvaged.unreadable {
            text.toned(Tone::Bad, "unreadable")?;
            text.line(format_args!(": {error}"))?;
        }
        let (states, files) = (units::counted(salvaged.states, "state"), units::counted(salvaged.files, "data file"));
        let bytes = units::bytes(salvaged.bytes);
        text.line(format_args!("saved {states} ({bytes}) from {files}: see {}", dir.join(INDEX).display()))
    })?;
    Ok(if salvaged.unreadable.is_empty() { Verdict::Fine } else { Verdict::Found })
}

/// What each state is called. States in manifests alone are not in any data file.
fn names(inspection: &Inspection) -> Names {
    let (mut names, mut open) = (Names::new(), Open::new());
    let mut last: Option<(CheckpointId, &Manifest)> = None;
    for checkpoint in inspection.checkpoints() {
        let Ok(manifest) = &checkpoint.manifest else { continue };
        match last.replace((checkpoint.id, manifest)) {
            None => manifest.all_states().for_each(|state| begin(&mut open, checkpoint.id, &state.name, state.handle)),
            Some((newest, before)) => {
                for StateDifference { name, before, after, .. } in manifest.differences(before) {
                    let ended = before.and_then(|handle| open.remove_entry(&(handle.clone(), address::of(&name))));
                    if let Some(ended) = ended {
                        close(&mut names, ended, newest);
                    }
                    if let Some(handle) = after {
                        begin(&mut open, checkpoint.id, &name, handle);
                    }
                }
            }
        }
    }
    if let Some((newest, _)) = last {
        for ended in open {
            close(&mut names, ended, newest);
        }
    }
    names
}

fn begin(open: &mut Open, oldest: CheckpointId, name: &StateName<'_>, handle: &StateHandle) {
    if !handle.is_inline() {
        open.insert((handle.clone(), address::of(name)), oldest);
    }
}

fn close(names: &mut Names, ((handle, state), oldest): ((StateHandle, String), CheckpointId), newest: CheckpointId) {
    names.entry(handle).or_default().push(Named { state, oldest, newest });
}

fn data_files(store: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for scope in ["exclusive", "shared"] {
        let entries = match fs::read_dir(store.join(scope)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|error| format!("list {}: {error}", store.join(scope).display()))?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Copies one state, and notes it in the index.
fn save(
    store: &Path,
    source: &Path,
    dir: &Path,
    entry: &piton::SegmentEntry,
    named: &[Named],
    index: &mut impl io::Write,
) -> Result<u64, Failure> {
    let from = source.strip_prefix(store).unwrap_or(source);
    let file = from.with_extension("").join(format!("{:012}.bin", entry.offset));
    let path = dir.join(&file);
    fs::create_dir_all(path.parent().unwrap_or(dir))?;
    let mut bytes = File::open(source)?;
    bytes.seek(SeekFrom::Start(entry.offset))?;
    let len = io::copy(&mut bytes.take(entry.handle.len()), &mut File::create_new(&path)?)?;
    if len != entry.handle.len() {
        return Err(format!("{} was cut short while it was read", source.display()).into());
    }
    let (offset, written_for) = (entry.offset, entry.checkpoint);
    let crc32 = format!("{:08x}", entry.handle.crc32());
    serde_json::to_writer(&mut *index, &Saved { file: &file, from, offset, bytes: len, crc32, written_for, named })?;
    writeln!(index)?;
    Ok(len)
}
