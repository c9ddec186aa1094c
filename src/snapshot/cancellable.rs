//! Streams that end when their snapshot is cancelled.

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use super::{task::cancelled, turn::Progress};
use crate::{
    contract::{CheckpointStream, CheckpointStreamFactory},
    error::Result,
    handle::StateHandle,
    id::{CheckpointId, Scope},
};

/// The streams of one snapshot.
#[derive(Debug)]
pub(super) struct CancellableStreams {
    streams: Arc<dyn CheckpointStreamFactory>,
    watch: Watch,
}

#[derive(Clone, Debug)]
struct Watch {
    id: CheckpointId,
    progress: Arc<Progress>,
}

#[derive(Debug)]
struct CancellableStream {
    stream: Box<dyn CheckpointStream>,
    watch: Watch,
}

impl Watch {
    fn check(&self) -> Result<()> {
        if self.progress.is_cancelled() { Err(cancelled(self.id)) } else { Ok(()) }
    }
}

impl CancellableStreams {
    pub(super) fn new(id: CheckpointId, streams: Arc<dyn CheckpointStreamFactory>, progress: Arc<Progress>) -> Self {
        Self { streams, watch: Watch { id, progress } }
    }
}

impl CheckpointStreamFactory for CancellableStreams {
    fn create_stream(&self, scope: Scope) -> Result<Box<dyn CheckpointStream>> {
        self.watch.check()?;
        let (stream, watch) = (self.streams.create_stream(scope)?, self.watch.clone());
        Ok(Box::new(CancellableStream { stream, watch }))
    }

    fn write(&self, scope: Scope, bytes: &[u8]) -> Result<StateHandle> {
        self.watch.check()?;
        self.streams.write(scope, bytes)
    }

    fn can_fast_duplicate(&self, handle: &StateHandle, scope: Scope) -> Result<bool> {
        self.watch.check()?;
        self.streams.can_fast_duplicate(handle, scope)
    }

    fn duplicate(&self, handles: &[StateHandle], scope: Scope) -> Result<Vec<StateHandle>> {
        self.watch.check()?;
        self.streams.duplicate(handles, scope)
    }

    fn reuse_previous(&self, handles: &[StateHandle]) -> Result<Vec<StateHandle>> {
        self.watch.check()?;
        self.streams.reuse_previous(handles)
    }

    fn could_reuse(&self, handle: &StateHandle) -> bool {
        self.streams.could_reuse(handle)
    }

    fn check_active(&self) -> Result<()> {
        self.watch.check()?;
        self.streams.check_active()
    }
}

impl io::Write for CancellableStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.watch.check()?;
        self.stream.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.watch.check()?;
        self.stream.write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.watch.check()?;
        self.stream.flush()
    }
}

impl CheckpointStream for CancellableStream {
    fn position(&self) -> u64 {
        self.stream.position()
    }

    fn sync(&mut self) -> Result<()> {
        self.watch.check()?;
        self.stream.sync()
    }

    fn finish(self: Box<Self>) -> Result<StateHandle> {
        self.watch.check()?;
        self.stream.finish()
    }
}
