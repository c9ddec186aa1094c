//! Data files that are open for reading.

use std::{ops::Range, path::Path, sync::Arc};

use super::verify;
use crate::{
    disk::{Mapping, file::VolumeFile, layout, volume::Volume},
    error::{Error, Malformed, Result},
    handle::Extent,
    id::FileId,
    manifest::DataFile,
    options::Verify,
};

/// At most this many files of a store stay mapped: the operating system allows some 65,000 mappings. States of others are
/// mapped each by itself.
const MOST_MAPPED: usize = 1 << 14;

/// Keeps a place among those that stay mapped.
pub(super) type Permit = Arc<()>;

/// What every open checkpoint of a store needs for reading.
#[derive(Debug)]
pub(crate) struct ReadSettings {
    volume: Arc<Volume>,
    pub(super) verify: Verify,
    permit: Permit,
}

/// A data file that is open for reading.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    data: DataFile,
    file: VolumeFile,
}

impl ReadSettings {
    pub(crate) fn new(volume: Arc<Volume>, verify: Verify) -> Self {
        Self { volume, verify, permit: Permit::default() }
    }

    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// For a file that is to stay mapped, unless there are enough of them.
    pub(super) fn permit_mapping(&self) -> Option<Permit> {
        (Arc::strong_count(&self.permit) <= MOST_MAPPED).then(|| Arc::clone(&self.permit))
    }

    /// Opens a data file, and checks that it is the right one, unless nothing is to be verified.
    pub(crate) fn open(&self, data: DataFile) -> Result<OpenSegment> {
        if self.verify == Verify::Never { self.open_unverified(data) } else { self.open_verified(data) }
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
        Ok(OpenSegment { data, file })
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

    /// Checks that these bytes are the trailer of a state.
    pub(super) fn check_trailer(&self, trailer: &[u8], extent: &Extent) -> std::result::Result<(), Malformed> {
        verify::trailer(trailer, extent, (verify::tag_of(&self.data), &self.data))
    }

    /// Reads a run of bytes into memory of its own.
    pub(super) fn read(&self, part: &Range<u64>) -> Result<Vec<u8>> {
        self.file.read(part.start, part.end.saturating_sub(part.start)).map_err(|error| self.data.blame(error))
    }

    pub(super) fn maps_lazily(&self) -> bool {
        self.file.maps_lazily()
    }

    /// A mapping of all that the file has now.
    pub(super) fn map_whole(&self) -> Result<Mapping> {
        let len = self.file.len().map_err(|error| self.data.blame(error))?;
        self.file.map(0, len).map_err(|error| self.data.blame(error))
    }

    /// A mapping of one state.
    pub(super) fn map(&self, extent: &Extent) -> Result<Mapping> {
        self.file.map(extent.offset, extent.len).map_err(|error| self.data.blame(error))
    }

    /// Fails if the file ends before this offset.
    pub(crate) fn check_reaches(&self, end: u64) -> Result<()> {
        self.file.check_reaches(end).map_err(|error| self.data.blame(error))
    }
}
