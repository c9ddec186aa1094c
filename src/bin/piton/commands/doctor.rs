//! `piton doctor`

use std::{collections::BTreeSet, fs, io, path::Path};

use piton::{Options, inspect::Inspection};
use serde::Serialize;

use super::{Failure, probe};
use crate::{
    Outcome, Verdict,
    output::{Output, Text, Tone},
    units,
};

#[derive(Debug, Serialize)]
struct Diagnosis {
    findings: Vec<Finding>,
    file_system: Option<probe::FileSystem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Weight {
    /// Nothing to do.
    Note,
    /// The store works, and something should be done.
    Warning,
    /// Something is lost.
    Loss,
}

#[derive(Debug, Serialize)]
struct Finding {
    weight: Weight,
    what: String,
    remedy: String,
}

impl Finding {
    fn new(weight: Weight, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { weight, what: what.into(), remedy: remedy.into() }
    }
}

pub(super) fn run(store: &Path, output: &Output) -> Outcome {
    let mut findings = Vec::new();
    match Options::new().inspect(store) {
        Ok(inspection) => {
            of_log(&inspection, &mut findings);
            of_data(&inspection, &mut findings)?;
            of_members(&inspection, &mut findings)?;
        }
        Err(error) if error.is_newer_format() => {
            findings.push(Finding::new(Weight::Loss, error.to_string(), "use a newer version of piton"));
        }
        Err(error) => return Err(super::not_there(store, error)),
    }
    of_root(store, &mut findings)?;
    let file_system = probe::file_system(store);
    let diagnosis = Diagnosis { findings, file_system };
    output.answer(&diagnosis, |text| tell(text, &diagnosis))?;
    let is_sound = diagnosis.findings.iter().all(|finding| finding.weight == Weight::Note);
    Ok(if is_sound { Verdict::Fine } else { Verdict::Found })
}

fn of_log(inspection: &Inspection, findings: &mut Vec<Finding>) {
    for lost in inspection.lost() {
        let remedy = if lost.is_not_found() {
            "bring the file back from a backup, or open the store with Options::rebuild_identity(true)"
        } else {
            "bring the file back from a backup, or open the store with Options::accept_loss(true); `piton salvage DIR` saves \
             the states that are in data files"
        };
        findings.push(Finding::new(Weight::Loss, lost.to_string(), remedy));
    }
    for healed in inspection.healed() {
        let remedy = "nothing is lost: opening the store for writing mends it; look at the medium";
        findings.push(Finding::new(Weight::Warning, healed.to_string(), remedy));
    }
    for checkpoint in inspection.checkpoints() {
        let id = checkpoint.id;
        if let Err(error) = &checkpoint.manifest {
            let remedy = format!("`piton forget {id}`, once you do not need what is in its data files");
            findings.push(Finding::new(Weight::Loss, format!("checkpoint {id}: {error}"), remedy));
        }
        if !checkpoint.durable {
            let what = format!("checkpoint {id} was committed without syncs, and a power cut may take it");
            findings.push(Finding::new(Weight::Warning, what, "open the store with another Durability than None"));
        }
    }
}

fn of_data(inspection: &Inspection, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for (id, file) in inspection.incomplete()? {
        let what = format!("checkpoint {id}: {} is missing or too short", file.display());
        let remedy = format!("bring the file back from a backup, or `piton forget {id}`");
        findings.push(Finding::new(Weight::Loss, what, remedy));
    }
    let live: BTreeSet<_> = inspection.extents().bytes_by_file().into_keys().collect();
    let unreferenced: Vec<_> = inspection.files()?.into_iter().filter(|file| !live.contains(&file.path)).collect();
    if !unreferenced.is_empty() {
        let bytes = units::bytes(unreferenced.iter().map(|file| file.len).sum());
        let files = units::counted(unreferenced.len() as u64, "data file");
        let what = format!("no checkpoint names anything in {files} ({bytes})");
        let remedy = "an engine that is running may just be writing them; otherwise the next open deletes them";
        findings.push(Finding::new(Weight::Note, what, remedy));
    }
    Ok(())
}

fn of_members(inspection: &Inspection, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for member in inspection.members()? {
        let who = member.process.as_deref().unwrap_or("no process yet");
        let what = format!("member {} of generation {} was admitted: {who}", member.member, member.generation);
        if member.generation < inspection.generation() {
            let remedy = "the store was opened anew since: the next open deletes the file once the process has ended";
            findings.push(Finding::new(Weight::Note, what, remedy));
        } else {
            findings.push(Finding::new(Weight::Note, what, "Store::dismiss ends it"));
        }
    }
    Ok(())
}

/// What else is in the directory.
fn of_root(store: &Path, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    for dir in ["", "shared", "exclusive", "manifests"] {
        let entries = match fs::read_dir(store.join(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        let names = entries.collect::<io::Result<Vec<_>>>()?.into_iter().map(|entry| entry.file_name());
        let temps = names.filter(|name| name.to_string_lossy().starts_with(".tmp-")).count();
        if temps > 0 {
            let dir = if dir.is_empty() { "the root" } else { dir };
            let what = format!("{} in {dir}", units::counted(temps as u64, "temporary file"));
            let remedy = "an engine that is running may be writing them; otherwise the next open deletes them";
            findings.push(Finding::new(Weight::Note, what, remedy));
        }
    }
    if store.join("piton.partial").exists() {
        let what = "an export into this directory was interrupted";
        findings.push(Finding::new(Weight::Warning, what, "delete the directory, and export again"));
    }
    if store.join("piton.departing").exists() {
        let what = "another store took the checkpoint of this one over, and has not finished";
        findings.push(Finding::new(Weight::Warning, what, "open the other store: it finishes the move"));
    }
    Ok(())
}

fn tell(text: &mut Text<'_>, diagnosis: &Diagnosis) -> io::Result<()> {
    if diagnosis.findings.is_empty() {
        text.toned(Tone::Good, "the store is sound")?;
        text.line("")?;
    }
    for Finding { weight, what, remedy } in &diagnosis.findings {
        let (word, tone) = match weight {
            Weight::Note => ("note", Tone::Plain),
            Weight::Warning => ("warning", Tone::Warning),
            Weight::Loss => ("loss", Tone::Bad),
        };
        text.toned(tone, word)?;
        text.line(format_args!(": {what}"))?;
        text.paragraph(remedy)?;
    }
    if let Some(file_system) = &diagnosis.file_system {
        text.line("")?;
        file_system.tell(text)?;
    }
    Ok(())
}
