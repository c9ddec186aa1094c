//! Data files that are open for reading, and their mappings, which all states of a file share.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::verify;
use crate::{
    disk::{
        Mapping, layout,
        volume::{Volume, VolumeFile},
    },
    error::{Malformed, Result},
    handle::Extent,
    id::{FileId, StoreId},
    options::Verify,
};

/// What every open checkpoint of a store needs for reading.
#[derive(Debug)]
pub(crate) struct ReadSettings {
    volume: Arc<Volume>,
    pub(super) verify: Verify,
    /// The mappings that somebody uses.
    mappings: Mutex<HashMap<FileId, Weak<Mapping>>>,
}

/// A data file that is open for reading.
#[derive(Debug)]
pub(super) struct OpenSegment {
    id: FileId,
    file: VolumeFile,
    mapping: Mutex<Option<Arc<Mapping>>>,
}

impl ReadSettings {
    pub(crate) fn new(volume: Arc<Volume>, verify: Verify) -> Self {
        Self { volume, verify, mappings: Mutex::default() }
    }

    /// Opens a data file, and checks that it is the one of this name, unless nothing is to be verified.
    pub(super) fn open(&self, id: FileId, store: StoreId) -> Result<OpenSegment> {
        let name = layout::segment(id);
        let file = self.volume.open(&name).map_err(|error| {
            if error.is_not_found() {
                return Malformed::new(0, "the data file is missing").at("open", &self.volume.path(&name));
            }
            error
        })?;
        if self.verify != Verify::Never {
            verify::header(&file, id, store)?;
        }
        Ok(OpenSegment { id, file, mapping: Mutex::default() })
    }

    /// A mapping that this state lies in. One that somebody has already is shared if it reaches far enough: a file that
    /// has grown since is mapped again. `complete` bytes of the file do not change while this state lives.
    pub(super) fn map(&self, segment: &OpenSegment, extent: &Extent, complete: u64) -> Result<Arc<Mapping>> {
        segment.check_length(extent)?;
        let mut kept = segment.mapping.lock();
        if let Some(mapping) = kept.as_ref().filter(|mapping| mapping.len() as u64 >= extent.end()) {
            return Ok(Arc::clone(mapping));
        }
        let mapping = match self.shared(extent) {
            Some(mapping) => mapping,
            None => self.map_anew(segment, extent, complete)?,
        };
        *kept = Some(Arc::clone(&mapping));
        Ok(mapping)
    }

    fn shared(&self, extent: &Extent) -> Option<Arc<Mapping>> {
        let mapping = self.mappings.lock().get(&extent.file)?.upgrade()?;
        (mapping.len() as u64 >= extent.end()).then_some(mapping)
    }

    fn map_anew(&self, segment: &OpenSegment, extent: &Extent, complete: u64) -> Result<Arc<Mapping>> {
        let whole = segment.file.map(0, complete.max(extent.end()));
        // A file that was cut behind this state is no damage of this state.
        let mapping =
            whole.or_else(|error| if error.is_corrupt() { segment.file.map(0, extent.end()) } else { Err(error) });
        let mapping = Arc::new(mapping?);
        let mut mappings = self.mappings.lock();
        if mappings.len().is_power_of_two() {
            mappings.retain(|_, mapping| mapping.strong_count() > 0);
        }
        mappings.insert(segment.id, Arc::downgrade(&mapping));
        Ok(mapping)
    }
}

impl OpenSegment {
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn file(&self) -> &VolumeFile {
        &self.file
    }

    /// To look at a mapping beyond the end of its file would end the process.
    fn check_length(&self, extent: &Extent) -> Result<()> {
        match self.file.len()? {
            len if len < extent.end() => Err(Malformed::new(len, "the file ends here").at("map", self.file.path())),
            _ => Ok(()),
        }
    }
}
