//! One thread per process that makes the part of the process: it collects the shares of all operators of all workers.
//!
//! An operator hands in its share of an epoch, as bytes in memory, and goes on. This thread writes each share as it comes. After
//! the last one it makes the part durable, sends it to the coordinator, and tells the [`Clock`].

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write as _,
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
    time::Instant,
};

use piton::{ConnectorOffset, ManifestChanges, Member, PartitionState, PendingPart, Scope, Worn};

use crate::{
    Failure,
    clock::Clock,
    groups::{self, Pieces},
    message::{Prepared, Report, Ticket},
    process::Reporter,
    trap::{self, Point},
};

/// What an operator of one worker adds to a checkpoint.
#[derive(Debug, Default)]
pub struct Share {
    /// Key groups that changed, or all of them.
    pub groups: Option<GroupsShare>,
    /// New states, by name.
    pub states: Vec<(String, Vec<u8>)>,
    /// How far inputs were read, by name.
    pub offsets: Vec<(String, ConnectorOffset)>,
    /// How many units of input a source read since the last checkpoint.
    pub read: u64,
    /// Whether a source has more input to read.
    pub has_more: bool,
}

/// Key groups of one worker.
#[derive(Debug)]
pub struct GroupsShare {
    /// The operator in the manifest.
    pub operator: &'static str,
    /// The range of the worker.
    pub range: std::ops::Range<u32>,
    /// Whether these are all key groups of the range with all that they have.
    pub is_snapshot: bool,
    /// The key groups.
    pub pieces: Pieces,
}

/// What the thread is told.
#[derive(Debug)]
pub enum Work {
    /// A share of the checkpoint that an epoch ends with.
    Share(u64, Ticket, Box<Share>),
    /// A source came to its end.
    Exhausted,
    /// A checkpoint was published.
    Published(Worn),
    /// Sync a blob as large as the last part.
    Blob,
}

/// A part in the making.
struct Making {
    pending: PendingPart,
    changes: ManifestChanges,
    shares: usize,
    bytes: u64,
    read: u64,
    exhausted: bool,
}

/// The state of the thread.
pub struct Aligner {
    member: Member,
    clock: Arc<Clock>,
    reporter: Reporter,
    workers: usize,
    making: BTreeMap<u64, Making>,
    exhausted: usize,
    last_bytes: u64,
    blob: Option<File>,
}

/// The end that operators hand their shares to.
pub type Shares = Sender<Work>;

/// Each worker has one source and one keyed operator.
const OPERATORS: usize = 2;

impl Aligner {
    /// Makes the state of the thread.
    #[must_use]
    pub fn new(member: Member, clock: Arc<Clock>, reporter: Reporter, workers: usize) -> Self {
        let making = BTreeMap::new();
        Self { member, clock, reporter, workers, making, exhausted: 0, last_bytes: 0, blob: None }
    }

    /// Works until all who hand in shares are gone.
    ///
    /// # Errors
    ///
    /// A part could not be made: the process must end, as its operators have cleared their lists of changes.
    pub fn run(mut self, work: &Receiver<Work>) -> Result<(), Failure> {
        while let Ok(work) = work.recv() {
            match work {
                Work::Share(epoch, ticket, share) => self.take(epoch, ticket, *share)?,
                Work::Published(worn) => self.member.shed(&worn),
                Work::Blob => self.sync_blob()?,
                Work::Exhausted => {
                    self.exhausted += 1;
                    if self.exhausted == self.workers {
                        self.reporter.send(&Report::Exhausted)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, epoch: u64, ticket: Ticket, share: Share) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut making = match self.making.remove(&epoch) {
            Some(making) => making,
            None => Making::begin(&self.member, ticket)?,
        };
        making.add(epoch, share)?;
        if making.shares < self.workers * OPERATORS {
            self.making.insert(epoch, making);
            return Ok(());
        }
        trap::pass(Point::Written);
        let part = making.pending.prepare(making.changes)?;
        trap::pass(Point::Prepared);
        self.last_bytes = making.bytes;
        let micros = u64::try_from(begun.elapsed().as_micros())?;
        let Making { bytes, read, exhausted, .. } = making;
        self.reporter.send(&Report::Prepared(Box::new(Prepared { epoch, part, micros, bytes, read, exhausted })))?;
        trap::pass(Point::Sent);
        self.clock.set_durable(epoch);
        Ok(())
    }

    fn sync_blob(&mut self) -> Result<(), Failure> {
        let blob = match &mut self.blob {
            Some(blob) => blob,
            // Beside the store: the process works in the directory of the run.
            none => none.insert(tempfile::tempfile_in(".")?),
        };
        blob.write_all(&vec![7; usize::try_from(self.last_bytes)?])?;
        blob.sync_data()?;
        Ok(self.reporter.send(&Report::Blob)?)
    }
}

impl Making {
    fn begin(member: &Member, ticket: Ticket) -> Result<Self, Failure> {
        let pending = member.begin(ticket.id, ticket.since)?;
        let changes = ManifestChanges::new();
        Ok(Self { pending, changes, shares: 0, bytes: 0, read: 0, exhausted: true })
    }

    fn add(&mut self, epoch: u64, share: Share) -> Result<(), Failure> {
        let mut changes = std::mem::take(&mut self.changes);
        if let Some(share) = share.groups.filter(|share| share.is_snapshot || !share.pieces.is_empty()) {
            let handle = groups::write(self.pending.writer(Scope::Shared)?, epoch, &share.pieces)?;
            self.bytes += groups::len(&share.pieces);
            changes = if share.is_snapshot {
                let key_groups = Some(groups::in_manifest(&share.range)?);
                let partition =
                    PartitionState { snapshot: Some(handle.into()), key_groups, ..PartitionState::default() };
                changes.partition(share.operator, share.range.start, partition)
            } else {
                changes.delta(share.operator, share.range.start, handle)
            };
        }
        for (name, bytes) in share.states {
            changes = changes.state(name, self.pending.write(Scope::Shared, &bytes)?);
            self.bytes += bytes.len() as u64;
        }
        for (name, offset) in share.offsets {
            changes = changes.source_offset(name, offset);
        }
        self.changes = changes;
        self.shares += 1;
        self.read += share.read;
        self.exhausted &= !share.has_more;
        Ok(())
    }
}
