//! Rounds of all peers, interleaved.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::Advice,
    time::{ClockId, clock_gettime},
};

use crate::{
    Result,
    peer::{Kind, Peer},
    workload::{Changes, Workload},
};

/// How often the steps at the end are repeated.
const REPEATS: usize = 3;

/// The measurements of one peer.
pub struct Line {
    pub kind: Kind,
    /// Of each checkpoint, ascending.
    pub times: Vec<Duration>,
    /// The processor's time of all of them, that of other threads included.
    pub processor: Duration,
    /// How many bytes went to the medium, for each checkpoint, if the medium counts them.
    pub written: Option<u64>,
    /// What it takes on the medium at the end.
    pub allocated: u64,
    pub after: After,
    /// Calls to the system, and syncs, for each checkpoint, if they were counted.
    pub calls: Option<(f64, f64)>,
}

/// The steps at the end. `None` if a peer lacks the step.
#[derive(Default)]
pub struct After {
    pub duplicated: Option<Duration>,
    pub exported: Option<Duration>,
    pub pruned: Option<Duration>,
    /// To open it again.
    pub opened: Duration,
    /// To open it again, and to read all states.
    pub restored: Duration,
    /// The same, while the operating system remembers none of its files.
    pub restored_cold: Duration,
}

struct Entrant {
    kind: Kind,
    dir: PathBuf,
    peer: Box<dyn Peer>,
    times: Vec<Duration>,
    processor: Duration,
    written: Option<u64>,
}

/// One workload, by all peers.
pub struct Run<'a> {
    workload: &'a Workload,
    dir: &'a Path,
    entrants: Vec<Entrant>,
    changes: Changes,
}

impl<'a> Run<'a> {
    /// Opens all peers, and has each take the first checkpoint.
    pub fn new(workload: &'a Workload, kinds: &[Kind], dir: &'a Path) -> Result<Self> {
        let mut changes = Changes::default();
        workload.changes(0, &mut changes);
        let open = |kind: &Kind| {
            let dir = dir.join(format!("{}-{}", workload.letter, kind.name.replace(' ', "-")));
            fs::create_dir(&dir)?;
            let mut peer = (kind.open)(&dir, workload)?;
            peer.checkpoint(&changes)?;
            let (times, processor, written) = (Vec::new(), Duration::ZERO, Some(0));
            Ok(Entrant { kind: *kind, dir, peer, times, processor, written })
        };
        let kinds = kinds.iter().filter(|kind| workload.states <= kind.most_states);
        let entrants = kinds.map(open).collect::<Result<_>>()?;
        Ok(Self { workload, dir, entrants, changes })
    }

    /// Has each peer take this number of checkpoints, each round in another order.
    pub fn rounds(&mut self, rounds: usize) -> Result<()> {
        let file_system = File::open(self.dir)?;
        let counter = Medium::of(self.dir)?;
        for round in 1..=rounds {
            self.workload.changes(round, &mut self.changes);
            self.entrants.rotate_left(1);
            if round % self.entrants.len().max(1) == 0 {
                self.entrants.reverse();
            }
            for entrant in &mut self.entrants {
                entrant.peer.rest()?;
                rustix::fs::syncfs(&file_system)?;
                let written = counter.written();
                entrant.checkpoint(&self.changes)?;
                rustix::fs::syncfs(&file_system)?;
                let more = counter.written().zip(written).map(|(after, before)| after - before);
                entrant.written = entrant.written.zip(more).map(|(sum, more)| sum + more);
            }
        }
        Ok(())
    }

    /// Runs the steps at the end with each peer, and removes its directory.
    pub fn end(self) -> Result<Vec<Line>> {
        let Self { workload, dir, mut entrants, .. } = self;
        entrants.sort_by_key(|entrant| entrant.dir.clone());
        entrants.into_iter().map(|entrant| entrant.end(workload, dir)).collect()
    }
}

impl Entrant {
    fn checkpoint(&mut self, changes: &Changes) -> Result<()> {
        let (before, start) = (processor_time(), Instant::now());
        self.peer.checkpoint(changes)?;
        self.times.push(start.elapsed());
        self.processor += processor_time().saturating_sub(before);
        Ok(())
    }

    fn end(self, workload: &Workload, near: &Path) -> Result<Line> {
        let Self { kind, dir, mut peer, mut times, processor, written } = self;
        let rounds = times.len().max(1) as u64;
        let allocated = allocated(&dir)?;
        let exported = repeat(|| {
            let to = near.join("exported");
            let exported = timed(|| peer.export(&to));
            fs::remove_dir_all(&to).or_else(|error| if to.exists() { Err(error) } else { Ok(()) })?;
            exported
        })?;
        let (duplicated, pruned) = (timed(|| peer.duplicate())?, timed(|| peer.prune())?);
        let mut after = After { exported, duplicated, pruned, ..After::default() };
        drop(peer);
        let open = || -> Result<(Duration, Duration)> {
            let start = Instant::now();
            let mut peer = (kind.open)(&dir, workload)?;
            let opened = start.elapsed();
            let read = peer.read_all()?;
            if read < workload.size() {
                return Err(format!("{} has {read} of {} bytes", kind.name, workload.size()).into());
            }
            Ok((opened, start.elapsed()))
        };
        let mut warm = (0..REPEATS).map(|_| open()).collect::<Result<Vec<_>>>()?;
        warm.sort_by_key(|(_, restored)| *restored);
        (after.opened, after.restored) = warm[REPEATS / 2];
        let mut cold = (0..REPEATS).map(|_| evict(&dir).and_then(|()| open())).collect::<Result<Vec<_>>>()?;
        cold.sort_by_key(|(_, restored)| *restored);
        after.restored_cold = cold[REPEATS / 2].1;
        fs::remove_dir_all(dir)?;
        times.sort();
        Ok(Line { kind, times, processor, written: written.map(|sum| sum / rounds), allocated, after, calls: None })
    }
}

/// How long it took, if the peer has such a thing.
fn timed(act: impl FnOnce() -> Result<bool>) -> Result<Option<Duration>> {
    let start = Instant::now();
    Ok(act()?.then(|| start.elapsed()))
}

/// The median.
fn repeat(mut act: impl FnMut() -> Result<Option<Duration>>) -> Result<Option<Duration>> {
    let mut times = (0..REPEATS).map(|_| act()).collect::<Result<Vec<_>>>()?;
    times.sort();
    Ok(times[REPEATS / 2])
}

impl Line {
    pub fn quantile(&self, of: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list"
        )]
        let at = ((self.times.len().saturating_sub(1)) as f64 * of).round() as usize;
        self.times.get(at).copied().unwrap_or_default()
    }
}

/// Of the process, all threads, in user and in kernel mode.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// What counts how much was written to the block device of a directory, if it has one.
struct Medium(PathBuf);

impl Medium {
    fn of(dir: &Path) -> Result<Self> {
        let device = fs::metadata(dir)?.dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        Ok(Self(PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"))))
    }

    /// The seventh field, in sectors of 512 bytes.
    fn written(&self) -> Option<u64> {
        let sectors: u64 = fs::read_to_string(&self.0).ok()?.split_whitespace().nth(6)?.parse().ok()?;
        Some(sectors * 512)
    }
}

fn each_file(dir: &Path, act: &mut impl FnMut(&Path, &fs::Metadata) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            each_file(&entry.path(), act)?;
        } else {
            act(&entry.path(), &metadata)?;
        }
    }
    Ok(())
}

fn allocated(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    each_file(dir, &mut |_, metadata| {
        sum += metadata.blocks() * 512;
        Ok(())
    })?;
    Ok(sum)
}

/// Drops these files from the page cache.
fn evict(dir: &Path) -> Result<()> {
    rustix::fs::syncfs(File::open(dir)?)?;
    each_file(dir, &mut |path, _| Ok(rustix::fs::fadvise(File::open(path)?, 0, None, Advice::DontNeed)?))
}

/// Takes checkpoints, as strace is to see them.
pub fn only_run(workload: &Workload, kinds: &[Kind], dir: &Path, rounds: usize) -> Result<()> {
    let mut run = Run::new(workload, kinds, dir)?;
    let mut changes = Changes::default();
    for round in 1..=rounds {
        workload.changes(round, &mut changes);
        run.entrants.iter_mut().try_for_each(|entrant| entrant.peer.checkpoint(&changes))?;
    }
    Ok(())
}
