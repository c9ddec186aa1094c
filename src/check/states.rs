//! The bytes of every state of a checkpoint, file by file.

use super::{Issue, Validation};
use crate::{
    disk::layout,
    error::{Error, Result},
    format::segment::entry_end,
    handle::{Extent, Place},
    id::FileId,
    manifest::{Digest, DigestHasher, Manifest, StateRef},
    observe::{Progress, Task},
    read::{OpenSegment, ReadSettings, check_digest},
};

/// What is wrong with a state.
struct Wrong<'a> {
    /// If its bytes are.
    bytes: Option<&'a Extent>,
    state: &'a StateRef<'a>,
    error: Error,
}

/// A state in a file.
type InFile<'a> = (Extent, StateRef<'a>);

/// What is wrong with a checkpoint. Each damaged state is told to `note`: with its place if its bytes are damaged, and so
/// those of every checkpoint that refers to them; without if only this one says that they should be others.
///
/// An error that is no damage says nothing about the checkpoint, and is returned.
pub(crate) fn validate(
    settings: &ReadSettings,
    manifest: &Manifest,
    (vnode_count, depth): (u16, Validation),
    mut note: impl FnMut(Option<&Extent>, &Error),
) -> Result<Vec<Issue>> {
    let observer = settings.volume().observer();
    let mut issues = Issue::of_content(manifest, vnode_count);
    let mut in_files = Vec::new();
    for state in manifest.all_states() {
        match &state.handle.0 {
            Place::File { .. } => in_files.extend(state.handle.extent().map(|extent| (extent, state))),
            Place::Inline { bytes, .. } => {
                let Some(expected) = state.digest else { continue };
                if let Err(wrong) = check_digest(0, expected, &Digest::of(bytes)) {
                    let error = wrong.at(OPERATION, &settings.volume().path(layout::MANIFESTS));
                    note(None, &error);
                    issues.push(issue(&state, error));
                }
            }
        }
    }
    in_files.sort_unstable_by_key(|(extent, _)| (extent.file, extent.offset));
    let sizes = in_files.iter().map(|(extent, _)| extent.len);
    let mut progress = Progress::new(Task::Verify, in_files.len(), sizes.fold(0, u64::saturating_add));
    for states in in_files.chunk_by(|(a, _), (b, _)| a.file == b.file) {
        let Some((first, _)) = states.first() else { continue };
        let mut check = Checked::open(settings, first.file, manifest, depth)?;
        for same in states.chunk_by(|(a, _), (b, _)| a == b) {
            let mut wrong = check.states(same)?;
            if !wrong.is_empty() && !matches!(check, Checked::Failed(_)) {
                // A verdict takes a second look.
                settings.check_in_place()?;
                check = Checked::open(settings, first.file, manifest, depth)?;
                wrong = check.states(same)?;
            }
            for Wrong { bytes, state, error } in wrong {
                note(bytes, &error);
                issues.push(issue(state, error));
            }
            for (extent, _) in same {
                progress.done(extent.len);
            }
            if depth == Validation::Full {
                observer.progress(progress);
            }
        }
    }
    Ok(issues)
}

const OPERATION: &str = "verify";

fn issue(state: &StateRef<'_>, error: Error) -> Issue {
    Issue::State { name: state.name.to_string(), error }
}

/// A file with states, as closely as it is looked at.
enum Checked {
    Quick(OpenSegment),
    Full(OpenSegment),
    Failed(Error),
}

impl Checked {
    fn open(settings: &ReadSettings, file: FileId, manifest: &Manifest, depth: Validation) -> Result<Self> {
        let open = || match depth {
            Validation::Full => settings.open_verified(manifest.data_file(file)).map(Self::Full),
            Validation::Quick => settings.open_unverified(manifest.data_file(file)).map(Self::Quick),
        };
        // A verdict takes a second look.
        let again = || settings.check_in_place().and_then(|()| open());
        let opened = open().or_else(|error| if error.is_damage() { again() } else { Err(error) });
        opened.or_else(|error| if error.is_damage() { Ok(Self::Failed(error)) } else { Err(error) })
    }

    /// What is wrong with states that are the same run of bytes.
    fn states<'a>(&mut self, same: &'a [InFile<'a>]) -> Result<Vec<Wrong<'a>>> {
        let Some((extent, _)) = same.first() else { return Ok(Vec::new()) };
        let wants_digest = same.iter().any(|(_, state)| state.digest.is_some());
        let found = match self {
            Self::Failed(error) => Err(error.clone()),
            Self::Quick(segment) => segment.check_reaches(entry_end(extent.offset, extent.len)).map(|()| None),
            Self::Full(segment) => digest(segment, extent, wants_digest),
        };
        if let Err(error) = &found
            && !error.is_damage()
        {
            return Err(error.clone());
        }
        let wrong = |(extent, state): &'a InFile<'a>| match (&found, state.digest, &*self) {
            (Err(error), ..) => Some(Wrong { bytes: Some(extent), state, error: error.clone() }),
            (Ok(Some(found)), Some(expected), Self::Full(segment)) => {
                let wrong = check_digest(extent.offset, expected, found).err()?;
                Some(Wrong { bytes: None, state, error: wrong.at(OPERATION, segment.path()) })
            }
            _ => None,
        };
        Ok(same.iter().filter_map(wrong).collect())
    }
}

/// Verifies a state; its digest, if somebody wants it.
fn digest(segment: &OpenSegment, extent: &Extent, wanted: bool) -> Result<Option<Digest>> {
    let mut hasher = wanted.then(DigestHasher::default);
    segment.verify_state(extent, |piece| {
        if let Some(hasher) = &mut hasher {
            hasher.update(piece);
        }
    })?;
    Ok(hasher.map(DigestHasher::finish))
}
