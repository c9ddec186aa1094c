//! The files of `manifests/`: reading what a checkpoint consists of, and changing what may be changed of it.
//!
//! # Who owns what
//!
//! A manifest (`*.manifest`) is published by `commit`, and never changed. What may change afterwards (the status of sinks,
//! the engine's metadata, whether the checkpoint is pinned) is beside it in `*.update`, which is replaced as a whole. So no
//! change can damage what a checkpoint refers to. The update is removed after the manifest; one without a manifest is an
//! orphan.
//!
//! # Changing, step by step
//!
//! 1. the update under a temporary name, synced. A crash leaves the temporary name;
//! 2. a last look whether the store is still ours; rename in place of the update before. A crash from here to the end of 3
//!    leaves the old update or the new one;
//! 3. sync of `manifests/`. Its failure poisons the store.

use std::sync::Arc;

use crate::{
    disk::{layout, publish::TempFile, spare, volume::Volume},
    error::{Error, Malformed, Result},
    format::{
        manifest::{self, body_crc},
        update::{self, Update},
    },
    id::{CheckpointId, StoreId},
    identity::IdentityFile,
    manifest::{Manifest, ManifestContent, Name, SinkCommitStatus},
    ordered::OrdMap,
};

const OPERATION: &str = "read manifest";

/// What is known of a checkpoint from its files.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// With what was changed since it was published.
    pub(crate) manifest: Manifest,
    pub(crate) pinned: bool,
    /// Whether there is an update.
    pub(crate) updated: bool,
    manifest_crc: u32,
    /// What the update stands in place of.
    published: Option<(SinkStatus, Metadata)>,
}

type SinkStatus = OrdMap<Name, SinkCommitStatus>;
type Metadata = OrdMap<Name, Arc<[u8]>>;

/// The manifest of this checkpoint of this store, and what was changed of it. A missing one is damage: whoever asks has
/// seen its name.
pub(crate) fn load(volume: &Volume, store: StoreId, id: CheckpointId) -> Result<Loaded> {
    match load_in_parts(volume, store, id)? {
        (loaded, None) => Ok(loaded),
        (_, Some(error)) => Err(error),
    }
}

/// The same, but if only what was changed cannot be read, it is as it was published, and pinned, for all that is known.
pub(crate) fn load_in_parts(volume: &Volume, store: StoreId, id: CheckpointId) -> Result<(Loaded, Option<Error>)> {
    let mut loaded = load_published(volume, store, id)?;
    let error = match load_update(volume, &loaded) {
        Ok(update) => {
            if let Some(update) = update {
                loaded.apply(update);
            }
            None
        }
        Err(error) => {
            (loaded.pinned, loaded.updated) = (true, true);
            Some(error)
        }
    };
    Ok((loaded, error))
}

/// Whether a checkpoint that has an update, and whose manifest cannot be read, may be pinned.
pub(crate) fn may_be_pinned(volume: &Volume, id: CheckpointId) -> bool {
    let head = (update::HEAD_LEN, update::check_head as _);
    volume.parse(layout::update(id), "read update", head, update::decode).map_or(true, |update| update.pinned)
}

/// Why a manifest must not be used that a writer published which had lost the store, to this generation or an earlier one.
pub(crate) fn stale(volume: &Volume, manifest: &Manifest, later: u64) -> Error {
    let Manifest { id, generation, .. } = manifest;
    let what = format!("generation {generation} published it after generation {later} had taken the store over");
    Malformed::new(0, what).at("check", &volume.path(layout::manifest(*id)))
}

/// The manifest of this name, whatever store it belongs to.
pub(crate) fn peek(volume: &Volume, id: CheckpointId) -> Result<Manifest> {
    let head = (manifest::HEAD_LEN, manifest::check_head as _);
    volume.parse(layout::manifest(id), OPERATION, head, manifest::decode)
}

fn load_published(volume: &Volume, store: StoreId, id: CheckpointId) -> Result<Loaded> {
    let name = layout::manifest(id);
    let head = (manifest::HEAD_LEN, manifest::check_head as _);
    let loaded = volume.parse(&name, OPERATION, head, |bytes| {
        let manifest = manifest::decode(bytes)?;
        if (manifest.id, manifest.store) == (id, store) {
            let manifest_crc = body_crc(bytes);
            return Ok(Loaded { manifest, pinned: false, updated: false, manifest_crc, published: None });
        }
        Err(Malformed::new(0, format!("it is that of checkpoint {} of store {}", manifest.id, manifest.store)))
    });
    loaded.map_err(|error| {
        let missing = Malformed::new(0, "the manifest is missing");
        if error.is_not_found() { missing.at(OPERATION, &volume.path(&name)) } else { error }
    })
}

fn load_update(volume: &Volume, of: &Loaded) -> Result<Option<Update>> {
    let Manifest { store, id, .. } = of.manifest;
    let head = (update::HEAD_LEN, update::check_head as _);
    let update = volume.parse(layout::update(id), "read update", head, |bytes| {
        let update = update::decode(bytes)?;
        if (update.id, update.store, update.manifest_crc) == (id, store, of.manifest_crc) {
            return Ok(update);
        }
        Err(Malformed::new(0, "it belongs to another manifest"))
    });
    match update {
        Err(error) if error.is_not_found() => Ok(None),
        update => update.map(Some),
    }
}

impl Loaded {
    fn apply(&mut self, update: Update) {
        let content = &mut self.manifest.content;
        let status = std::mem::replace(&mut content.sink_status, update.sink_status);
        let metadata = std::mem::replace(&mut content.metadata, update.metadata);
        self.published = Some((status, metadata));
        self.pinned = update.pinned;
        self.updated = true;
    }

    /// The content as it was published.
    pub(crate) fn into_published(self) -> ManifestContent {
        let mut content = self.manifest.content;
        if let Some((sink_status, metadata)) = self.published {
            content.sink_status = sink_status;
            content.metadata = metadata;
        }
        content
    }

    /// Takes over what may be changed of a manifest; refuses if anything else differs.
    pub(crate) fn change(&mut self, to: &Manifest) -> Result<()> {
        let (id, ours) = (self.manifest.id, &self.manifest.content);
        let mut theirs = to.content.clone();
        theirs.epoch = Some(to.epoch());
        theirs.vnode_count = theirs.vnode_count.or(ours.vnode_count);
        let mut allowed = ours.clone();
        allowed.sink_status.clone_from(&theirs.sink_status);
        allowed.metadata.clone_from(&theirs.metadata);
        if to.id != id || theirs != allowed {
            let why = "only the status of sinks and the metadata of a checkpoint may change";
            return Err(Error::invalid(format!("update checkpoint {id}"), why));
        }
        self.manifest.content = theirs;
        Ok(())
    }

    /// The update that says what may change as it is here.
    pub(crate) fn update(&self) -> Update {
        let Manifest { store, id, content, .. } = &self.manifest;
        let (sink_status, metadata) = (content.sink_status.clone(), content.metadata.clone());
        let (store, id, manifest_crc, pinned) = (*store, *id, self.manifest_crc, self.pinned);
        Update { store, id, manifest_crc, pinned, sink_status, metadata }
    }
}

/// Makes what was changed of a checkpoint durable. The caller holds the lock of the names in `manifests/`.
pub(crate) fn write_update(volume: &Arc<Volume>, identity: &IdentityFile, update: &Update) -> Result<()> {
    let operation = format!("update checkpoint {}", update.id);
    volume.check_writable(&operation)?;
    let bytes = update::encode(update);
    let replace = || {
        let temp = TempFile::write(volume, layout::MANIFESTS.as_ref(), &bytes)?;
        identity.check_not_fenced(&operation)?;
        temp.replace(&layout::update(update.id), &bytes)
    };
    // A checkpoint that was pinned must be able to go when the disk is full. Other changes leave the room to that.
    let replaced = if update.pinned { replace() } else { spare::even_if_full(volume, replace) };
    replaced?;
    volume.settle_dir(layout::MANIFESTS)?;
    // Whoever took the store over meanwhile may not have seen it.
    identity.check_not_fenced(&operation).map_err(|error| volume.in_doubt(error))
}
