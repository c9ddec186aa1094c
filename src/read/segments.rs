//! Data files that are open for reading, and their mappings, which all states of a file share.

use std::{
    collections::HashMap,
    ops::Range,
    path::Path,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::verify;
use crate::{
    disk::{Mapping, file::VolumeFile, layout, volume::Volume},
    error::{Error, Malformed, Result},
    handle::Extent,
    id::{FileId, NO_LANE},
    manifest::DataFile,
    options::Verify,
};

/// What every open checkpoint of a store needs for reading.
#[derive(Debug)]
pub(crate) struct ReadSettings {
    volume: Arc<Volume>,
    pub(super) verify: Verify,
    /// The files that somebody has open.
    open: Mutex<HashMap<FileId, Weak<OpenSegment>>>,
}

/// A data file that is open for reading, and its mapping: what is verified is what is mapped.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    data: DataFile,
    file: VolumeFile,
    mapping: Mutex<Option<Arc<Mapping>>>,
}

/// A state in a mapping.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) mapping: Arc<Mapping>,
    pub(super) part: Range<usize>,
}

impl ReadSettings {
    pub(crate) fn new(volume: Arc<Volume>, verify: Verify) -> Self {
        Self { volume, verify, open: Mutex::default() }
    }

    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Opens a data file, and checks that it is the right one, unless nothing is to be verified.
    pub(crate) fn open(&self, data: DataFile) -> Result<OpenSegment> {
        let segment = self.open_unverified(data)?;
        if self.verify != Verify::Never {
            verify::header(&segment.file, &segment.data).map_err(|error| segment.data.blame(error))?;
        }
        Ok(segment)
    }

    /// Opens a data file, and checks that it is the right one.
    pub(crate) fn open_verified(&self, data: DataFile) -> Result<OpenSegment> {
        let segment = self.open_unverified(data)?;
        verify::header(&segment.file, &segment.data).map_err(|error| segment.data.blame(error))?;
        Ok(segment)
    }

    /// Opens a data file, whatever is in it.
    pub(crate) fn open_unverified(&self, data: DataFile) -> Result<OpenSegment> {
        let file = self.volume.open(layout::data_file(data.id, data.lent()));
        let file = file.map_err(|error| self.not_there(&data, error))?;
        Ok(OpenSegment { data, file, mapping: Mutex::default() })
    }

    fn not_there(&self, data: &DataFile, error: Error) -> Error {
        let name = layout::data_file(data.id, data.lent());
        data.blame(if error.is_not_found() { self.missing(&name) } else { error })
    }

    fn missing(&self, name: &Path) -> Error {
        Malformed::new(0, "the data file is missing").at("open", &self.volume.path(name))
    }

    /// Before a second look at what seems to be damaged: in a directory that was exchanged nothing is damage.
    pub(crate) fn check_in_place(&self) -> Result<()> {
        self.volume.check_in_place("read from")
    }

    /// Opens a data file anew, whatever its sharers have open: for a second look.
    pub(super) fn open_again(&self, data: DataFile) -> Result<Arc<OpenSegment>> {
        self.check_in_place()?;
        self.open.lock().remove(&data.id);
        self.open_shared(data)
    }

    /// Opens a data file, or shares it with those who have it open already.
    pub(super) fn open_shared(&self, data: DataFile) -> Result<Arc<OpenSegment>> {
        let id = data.id;
        let known = self.open.lock().get(&id).and_then(Weak::upgrade);
        if let Some(segment) = known {
            return Ok(segment);
        }
        let segment = Arc::new(self.open(data)?);
        let mut open = self.open.lock();
        if open.len().is_power_of_two() {
            open.retain(|_, segment| segment.strong_count() > 0);
        }
        open.insert(id, Arc::downgrade(&segment));
        Ok(segment)
    }
}

impl OpenSegment {
    /// A file that is not in its place yet.
    pub(crate) fn check_copy(file: &VolumeFile, data: &DataFile, extents: &[Extent]) -> Result<()> {
        verify::header(file, data)?;
        extents.iter().try_for_each(|extent| verify::state(file, extent, data, |_| ()))
    }

    pub(crate) fn id(&self) -> FileId {
        self.data.id
    }

    /// Whether many states share the file.
    pub(super) fn is_shared(&self) -> bool {
        self.data.id.lane != NO_LANE
    }

    pub(super) fn file(&self) -> &VolumeFile {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Reads a state and what is behind it, a piece at a time, and fails if either is not what it should be.
    pub(crate) fn verify_state(&self, extent: &Extent, hand_on: impl FnMut(&[u8])) -> Result<()> {
        verify::state(&self.file, extent, &self.data, hand_on).map_err(|error| self.data.blame(error))
    }

    /// Reads a state, a piece at a time, and fails if it has not the checksum of its handle.
    pub(crate) fn check_state(&self, extent: &Extent, hand_on: impl FnMut(&[u8])) -> Result<()> {
        verify::payload(&self.file, extent, hand_on).map_err(|error| self.data.blame(error))
    }

    /// A mapping that this state lies in: of the whole file, which all of its states share, if that costs no more than
    /// mapping this one. A file that has grown since is mapped again. `complete` bytes of it do not change while this
    /// state lives.
    pub(super) fn map(&self, extent: &Extent, complete: u64) -> Result<Mapped> {
        if !self.file.maps_lazily() {
            let mapping = Arc::new(self.file.map(extent.offset, extent.len)?);
            let part = 0..mapping.len();
            return Ok(Mapped { mapping, part });
        }
        // A look at a mapping beyond the end of its file would end the process.
        self.check_reaches(extent.end())?;
        let mut kept = self.mapping.lock();
        let long_enough = |mapping: &&Arc<Mapping>| mapping.len() as u64 >= extent.end();
        let mapping = match kept.as_ref().filter(long_enough) {
            Some(mapping) => Arc::clone(mapping),
            None => Arc::new(self.map_anew(extent, complete)?),
        };
        *kept = Some(Arc::clone(&mapping));
        let start = usize::try_from(extent.offset).unwrap_or(usize::MAX);
        let end = usize::try_from(extent.end()).unwrap_or(usize::MAX);
        Ok(Mapped { mapping, part: start..end })
    }

    fn map_anew(&self, extent: &Extent, complete: u64) -> Result<Mapping> {
        let whole = self.file.map(0, complete.max(extent.end()));
        // A file that was cut behind this state is no damage of this state.
        whole.or_else(|error| if error.is_corrupt() { self.file.map(0, extent.end()) } else { Err(error) })
    }

    /// Fails if the file ends before this offset.
    pub(crate) fn check_reaches(&self, end: u64) -> Result<()> {
        self.file.check_reaches(end).map_err(|error| self.data.blame(error))
    }
}
