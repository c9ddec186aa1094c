//! `piton export`, `piton import`

use std::path::{Path, PathBuf};

use piton::{CheckpointId, Claim, Transferred, Way};
use serde::Serialize;

use super::change;
use crate::{
    Outcome, Verdict,
    arguments::{ClaimWay, Which},
    output::Output,
    units,
};

#[derive(Debug, Serialize)]
struct Taken {
    checkpoint: CheckpointId,
    root: PathBuf,
    linked_files: usize,
    reflinked_files: usize,
    copied_files: usize,
    /// What of the medium it takes that was free before.
    new_bytes: u64,
    failures: Vec<String>,
}

impl Taken {
    fn of(checkpoint: CheckpointId, root: &Path, files: &[Transferred], new_bytes: u64) -> Self {
        let count = |way| files.iter().filter(|file| file.way == way).count();
        Self {
            checkpoint,
            root: root.to_owned(),
            linked_files: count(Way::Linked),
            reflinked_files: count(Way::Reflinked),
            copied_files: count(Way::Copied),
            new_bytes,
            failures: Vec::new(),
        }
    }

    fn says(&self) -> String {
        let Self { linked_files, reflinked_files, copied_files, .. } = self;
        let bytes = units::bytes(self.new_bytes);
        format!(
            "{linked_files} files linked, {reflinked_files} reflinked, {copied_files} copied; {bytes} more on the medium"
        )
    }
}

pub(super) fn export(store: &Path, output: &Output, id: Which, dir: &Path) -> Outcome {
    let store = change::open_store(store, output)?;
    let id = match id {
        Which::Id(id) => id,
        Which::Latest => store.latest()?.ok_or("the store has no checkpoints yet")?.id(),
    };
    let exported = store.export(id, dir)?;
    let taken = Taken::of(id, &exported.root, &exported.files, exported.space());
    output.answer(&taken, |text| {
        text.line(format_args!("exported checkpoint {id} to {}", taken.root.display()))?;
        text.line(taken.says())
    })?;
    Ok(Verdict::Fine)
}

pub(super) fn import(store: &Path, output: &Output, dir: &Path, claim: ClaimWay) -> Outcome {
    let store = change::open_store(store, output)?;
    let claim = match claim {
        ClaimWay::Copy => Claim::Copy,
        ClaimWay::Move => Claim::Move,
        ClaimWay::Borrow => Claim::Borrow,
    };
    let imported = store.import(dir, claim)?;
    let id = imported.checkpoint.id();
    let failures = imported.failures.iter().map(ToString::to_string).collect();
    let taken = Taken { failures, ..Taken::of(id, dir, &imported.files, imported.space()) };
    output.answer(&taken, |text| {
        text.line(format_args!("imported the newest checkpoint of {} as {id}", dir.display()))?;
        text.line(taken.says())?;
        taken.failures.iter().try_for_each(|failure| text.line(format_args!("not yet: {failure}")))
    })?;
    Ok(Verdict::Fine)
}
