//! The identity file of an open store.
//!
//! `piton.store` is replaced as a whole, by rename, each time the store is opened for writing, with the next generation. So
//! a writer that was stalled while another one took over finds out. It says everything twice, in two blocks.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use crate::{
    disk::{file::VolumeFile, layout, publish::TempFile, spare, volume::Volume},
    error::{Cause, Error, Malformed, Result},
    format::identity::{self, Identity, PLACES, RECORD_LEN},
    id::StoreId,
};

/// The store that is open for writing here, as long as it is.
#[derive(Debug)]
pub(crate) struct IdentityFile {
    volume: Arc<Volume>,
    identity: Identity,
    /// The file, once it was written.
    file: OnceLock<VolumeFile>,
}

/// What was read.
#[derive(Clone, Debug)]
pub(crate) struct ReadIdentity {
    pub(crate) identity: Identity,
    /// Why one of the two records cannot be read, if it cannot.
    pub(crate) healed: Option<Error>,
}

pub(crate) const OPERATION: &str = "read store identity";

/// The identity on disk. Its absence is an error, `is_not_found`; that of an export that was not completed is damage.
pub(crate) fn read(volume: &Volume) -> Result<ReadIdentity> {
    let found = volume.open(layout::IDENTITY).and_then(|file| read_either(&file));
    match found {
        Err(error) if error.is_not_found() && is_partial(volume)? => {
            let what = "this is an export that was not completed; remove the directory, or export to it again";
            Err(Malformed::new(0, what).at(OPERATION, &volume.path(layout::PARTIAL)))
        }
        found => found,
    }
}

/// Either of the two records counts; two that differ are damage.
fn read_either(file: &VolumeFile) -> Result<ReadIdentity> {
    let [one, other] = PLACES.map(|place| read_record(file, place));
    match (one, other) {
        (Ok(one), Ok(other)) if one == other => Ok(ReadIdentity { identity: one, healed: None }),
        (Ok(_), Ok(_)) => Err(Malformed::new(PLACES[1], "it says two different things").at(OPERATION, file.path())),
        // A damaged record may look like that of a newer version, as long as the other one does not say otherwise.
        (Ok(identity), Err(error)) | (Err(error), Ok(identity)) if error.is_verdict() || error.is_newer_format() => {
            Ok(ReadIdentity { identity, healed: Some(error) })
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn read_record(file: &VolumeFile, place: u64) -> Result<Identity> {
    let mut bytes = [0; RECORD_LEN];
    file.read_exact_at(&mut bytes, place)?;
    identity::decode(&bytes).map_err(|error| error.at(OPERATION, file.path()))
}

/// Whether this is an export that was not completed: there is the mark of one, and no identity.
pub(crate) fn is_partial(volume: &Volume) -> Result<bool> {
    Ok(volume.metadata(layout::PARTIAL)?.is_some() && volume.metadata(layout::IDENTITY)?.is_none())
}

/// A random id for a new store.
pub(crate) fn fresh_id() -> Result<StoreId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| Error::invalid("make a store id", e.to_string()))?;
    Ok(StoreId(id))
}

/// Replaces the identity, durably: temporary file, sync, a last look whether it may be replaced, rename, sync of the root.
pub(crate) fn write(volume: &Arc<Volume>, identity: &Identity, admit: impl Fn() -> Result<()>) -> Result<()> {
    let bytes = identity::encode(identity);
    spare::even_if_full(volume, || {
        let temp = TempFile::write(volume, Path::new(""), &bytes)?;
        admit()?;
        temp.replace(Path::new(layout::IDENTITY), &bytes)
    })?;
    volume.settle_dir("")
}

impl IdentityFile {
    /// A store whose identity is this one, on disk or as soon as it is made.
    pub(crate) fn of(volume: &Arc<Volume>, identity: Identity) -> Self {
        Self { volume: Arc::clone(volume), identity, file: OnceLock::new() }
    }

    /// A store that another process has open, and that has this identity.
    ///
    /// # Errors
    ///
    /// `is_fenced` if it was opened anew since; `is_invalid` if another store is there by now.
    pub(crate) fn join(volume: &Arc<Volume>, identity: Identity, operation: &str) -> Result<Self> {
        let file = volume.open(layout::IDENTITY)?;
        let found = read_either(&file)?.identity;
        if found.store != identity.store {
            let why = format!("store {} is there, another one admitted the member", found.store);
            return Err(Error::at(operation, volume.root(), Cause::Invalid(why)));
        }
        let joined = Self::of(volume, identity);
        if found == joined.identity {
            let _ = joined.file.set(file);
        }
        joined.check_not_fenced(operation)?;
        Ok(joined)
    }

    /// Makes the identity durable: the store is taken over, or made.
    pub(crate) fn write(&self) -> Result<()> {
        write(&self.volume, &self.identity, || Ok(()))?;
        // Another opener may have replaced it already: then its content is another.
        let file = self.volume.open(layout::IDENTITY)?;
        if read_either(&file)?.identity == self.identity {
            let _ = self.file.set(file);
        }
        Ok(())
    }

    pub(crate) fn store(&self) -> StoreId {
        self.identity.store
    }

    pub(crate) fn generation(&self) -> u64 {
        self.identity.generation
    }

    /// Refuses if another process has opened the store for writing since, or if its directory was exchanged.
    pub(crate) fn check_not_fenced(&self, operation: &str) -> Result<()> {
        self.volume.check_in_place(operation)?;
        self.check_owned(operation)
    }

    /// Refuses if another process has opened the store for writing since. As long as the file is the one that was written
    /// here, none has: it is replaced, never changed.
    pub(super) fn check_owned(&self, operation: &str) -> Result<()> {
        if let Some(file) = self.file.get()
            && self.volume.leads_to(Path::new(layout::IDENTITY), file)? == Some(true)
        {
            return Ok(());
        }
        let found = read(&self.volume)?.identity.generation;
        let ours = self.generation();
        if found == ours {
            return Ok(());
        }
        let fenced = Error::at(operation, self.volume.root(), Cause::Fenced { ours, found });
        self.volume.note_fenced(&fenced);
        Err(fenced)
    }
}
