//! System calls, counted in runs of their own.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::{Result, measure::Line, workload::Workload};

/// How many rounds strace sees, of workloads that are small and of others: the difference is what they cost.
const SMALL: [u32; 2] = [10, 50];
const LARGE: [u32; 2] = [2, 6];
/// A workload with more bytes than this in each checkpoint is large.
const MOST_SMALL: usize = 64 << 20;

/// Counts the calls to the system of each peer, if there is an strace.
pub fn count_calls(workload: &Workload, dir: &Path, lines: &mut [Line]) {
    let runs @ [few, many] = if workload.new * workload.len > MOST_SMALL { LARGE } else { SMALL };
    let rounds = f64::from(many - few);
    for line in lines {
        let counted = runs.map(|rounds| counts(workload, dir, line.kind.name, rounds).ok());
        if let [Some(few), Some(many)] = counted {
            let each = |of: fn(&(f64, f64)) -> f64| (of(&many) - of(&few)) / rounds;
            line.calls = Some((each(|counts| counts.0), each(|counts| counts.1)));
        }
    }
}

/// All calls, and all syncs, of a run with this number of checkpoints.
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
