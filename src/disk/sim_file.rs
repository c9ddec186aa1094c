//! An open file of the simulated disk.

use std::io::{self, IoSlice};

use super::{
    DiskFile, Mapping,
    durable::{Call, Fault},
    sim::SimDisk,
    tree::{BLOCK, Content, NodeId},
};

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) node: NodeId,
    pub(super) content: Content,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.call(Call::ReadAt, |_| Ok(self.content.read_at(buffer, offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        let fault = SimDisk::enter(&mut state, Call::WriteAt)?;
        if let Some(Fault::Error(code)) = fault {
            return Err(io::Error::from_raw_os_error(code));
        }
        let accepted = if fault == Some(Fault::ShortWrite) { bytes.len().div_ceil(2) } else { bytes.len() };
        let bytes = bytes.get(..accepted).unwrap_or_default();
        let end = offset.saturating_add(bytes.len() as u64);
        state.check_room(end.next_multiple_of(BLOCK).saturating_sub(self.content.len().next_multiple_of(BLOCK)))?;
        self.content.write_at(bytes, offset)?;
        state.files.entry(self.node).or_default().note(offset, bytes.to_vec());
        match fault {
            Some(Fault::ErrorAfter(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => Ok(accepted),
        }
    }

    /// One call, which may accept half of the bytes like any other write.
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.write_at(&parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<_>>(), offset)
    }

    fn fill(&self, len: u64) -> io::Result<()> {
        if !self.disk.state.lock().zeros {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.disk.call(Call::Fill, |state| {
            state.check_room(len)?;
            let zeros = vec![0; usize::try_from(len).unwrap_or_default()];
            self.content.write_at(&zeros, 0)?;
            state.files.entry(self.node).or_default().note(0, zeros);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.call(Call::Len, |_| Ok(self.content.len()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let fault = SimDisk::enter(&mut state, Call::SyncData)?;
        state.files.entry(self.node).or_default().sync(fault)
    }

    fn map(&self, offset: u64, len: usize) -> io::Result<Mapping> {
        self.disk.call(Call::Map, |_| self.content.map(offset, len))
    }
}
