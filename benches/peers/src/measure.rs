//! Rounds of all peers, interleaved.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::{
    Result,
    peer::{Kind, Peer},
    workload::{Changes, Workload},
};

/// What was measured of one peer.
pub struct Line {
    pub kind: Kind,
    /// Of each checkpoint, ascending.
    pub times: Vec<Duration>,
    /// The processor's time of all of them, that of other threads included.
    pub processor: Duration,
    /// What it takes on the medium at the end.
    pub allocated: u64,
    /// To open it again, and to read all states.
    pub restored: Duration,
    /// Calls to the system, and syncs, for each checkpoint, if they were counted.
    pub calls: Option<(f64, f64)>,
}

struct Entrant {
    kind: Kind,
    dir: PathBuf,
    peer: Box<dyn Peer>,
    times: Vec<Duration>,
    processor: Duration,
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
            Ok(Entrant { kind: *kind, dir, peer, times: Vec::new(), processor: Duration::ZERO })
        };
        let entrants = kinds.iter().map(open).collect::<Result<_>>()?;
        Ok(Self { workload, dir, entrants, changes })
    }

    /// Has each peer take so many checkpoints, each round in another order.
    pub fn rounds(&mut self, rounds: usize) -> Result<()> {
        let file_system = File::open(self.dir)?;
        for round in 1..=rounds {
            self.workload.changes(round, &mut self.changes);
            self.entrants.rotate_left(1);
            if round % self.entrants.len().max(1) == 0 {
                self.entrants.reverse();
            }
            for entrant in &mut self.entrants {
                rustix::fs::syncfs(&file_system)?;
                let (before, start) = (processor_time(), Instant::now());
                entrant.peer.checkpoint(&self.changes)?;
                entrant.times.push(start.elapsed());
                entrant.processor += processor_time().saturating_sub(before);
            }
        }
        Ok(())
    }

    /// Closes each peer, opens it again, and reads everything; and removes it.
    pub fn restore(self) -> Result<Vec<Line>> {
        let mut entrants = self.entrants;
        entrants.sort_by_key(|entrant| entrant.dir.clone());
        entrants.into_iter().map(|entrant| entrant.restore(self.workload)).collect()
    }
}

impl Entrant {
    fn restore(self, workload: &Workload) -> Result<Line> {
        let Self { kind, dir, peer, mut times, processor } = self;
        drop(peer);
        let allocated = allocated(&dir)?;
        let start = Instant::now();
        let read = (kind.open)(&dir, workload)?.read_all()?;
        let restored = start.elapsed();
        if read < workload.size() {
            return Err(format!("{} has {read} of {} bytes", kind.name, workload.size()).into());
        }
        fs::remove_dir_all(dir)?;
        times.sort();
        Ok(Line { kind, times, processor, allocated, restored, calls: None })
    }
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

fn allocated(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { allocated(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(sum)
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

/// How many rounds strace sees: the difference is what they cost.
const FEW: u32 = 10;
const MANY: u32 = 50;

/// Counts the calls to the system of each peer, if there is an strace.
pub fn count_calls(workload: &Workload, dir: &Path, lines: &mut [Line]) {
    for line in lines {
        let counted = [FEW, MANY].map(|rounds| counts(workload, dir, line.kind.name, rounds).ok());
        if let [Some(few), Some(many)] = counted {
            let each = |of: fn(&(f64, f64)) -> f64| (of(&many) - of(&few)) / f64::from(MANY - FEW);
            line.calls = Some((each(|counts| counts.0), each(|counts| counts.1)));
        }
    }
}

/// All calls, and all syncs, of so many checkpoints and what comes before.
fn counts(workload: &Workload, dir: &Path, peer: &str, rounds: u32) -> Result<(f64, f64)> {
    let counted = tempfile::tempdir_in(dir)?;
    let summary = counted.path().join("summary");
    let status = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&summary)
        .arg(std::env::current_exe()?)
        .args(["--only-run", "--peer", peer, "--workload", &workload.letter.to_string()])
        .args(["--rounds", &rounds.to_string(), "--dir"])
        .arg(counted.path())
        .status()?;
    if !status.success() {
        return Err(format!("strace: {status}").into());
    }
    Ok(parse(&fs::read_to_string(summary)?))
}

/// Of the table that `strace -c` prints: the sum of all calls but those that wait for other threads, and that of syncs.
fn parse(summary: &str) -> (f64, f64) {
    let mut calls = BTreeMap::new();
    for line in summary.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        if let [_, _, _, count, .., name] = fields[..]
            && let Ok(count) = count.parse::<f64>()
        {
            calls.insert(name.to_owned(), count);
        }
    }
    calls.remove("total");
    let of = |names: &[&str]| names.iter().filter_map(|name| calls.get(*name)).sum::<f64>();
    let waits = of(&["futex", "sched_yield", "restart_syscall", "clock_nanosleep"]);
    (calls.values().sum::<f64>() - waits, of(&["fsync", "fdatasync", "msync", "sync_file_range"]))
}
