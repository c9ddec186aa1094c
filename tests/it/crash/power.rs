//! The power is cut, or the process killed, after every call.

use piton::testing::{Fault, SimDisk, Survival};

use super::workload::{Notes, check, check_works, run};

/// Without and with automatic retention.
const RETENTIONS: [Option<usize>; 2] = [None, Some(2)];

const SURVIVALS: [Survival; 8] = [
    Survival::Nothing,
    Survival::Everything,
    Survival::Random(1),
    Survival::Random(2),
    Survival::Random(3),
    Survival::Random(4),
    Survival::Random(5),
    Survival::Random(6),
];

/// A disk on which the workload ran until this call, and what it noted.
fn run_until(call: u64, retain: Option<usize>) -> (SimDisk, Notes) {
    let disk = SimDisk::new();
    disk.fail(call, Fault::PowerCut);
    let mut notes = Notes::new(retain);
    if let Ok(store) = notes.open(&disk) {
        let _ = run(&store, &mut notes);
    }
    (disk, notes)
}

fn calls_of_the_workload(retain: Option<usize>) -> u64 {
    let disk = SimDisk::new();
    let mut notes = Notes::new(retain);
    run(&notes.open(&disk).unwrap(), &mut notes).unwrap();
    let calls = disk.calls();
    assert!(calls > 400, "{calls} calls: the sweep would be too small to mean anything");
    calls
}

/// Runs a test with each number of calls and each retention.
fn after_every_call(test: impl Fn(u64, Option<usize>)) {
    for retain in RETENTIONS {
        (1..=calls_of_the_workload(retain) + 1).for_each(|call| test(call, retain));
    }
}

#[test]
fn power_cut_after_any_call_loses_no_committed_checkpoint_and_shows_no_other() {
    after_every_call(|call, retain| {
        for survival in SURVIVALS {
            let (disk, mut notes) = run_until(call, retain);
            let disk = disk.cut_power(survival);
            let store = notes.open(&disk).unwrap_or_else(|e| panic!("call {call}, {survival:?}: {e}"));
            check(&store, &mut notes);
            check_works(&disk, store, &mut notes);
        }
    });
}

#[test]
fn checkpoint_that_was_seen_after_a_kill_survives_a_power_cut() {
    after_every_call(|call, retain| {
        let (disk, mut notes) = run_until(call, retain);
        let disk = disk.kill();
        let store = notes.open(&disk).unwrap();
        check(&store, &mut notes);
        let seen = store.checkpoint_ids();
        let disk = disk.cut_power(Survival::Nothing);
        let store = notes.open(&disk).unwrap();
        assert_eq!(store.checkpoint_ids(), seen, "call {call}");
        check(&store, &mut notes);
        check_works(&disk, store, &mut notes);
    });
}

#[test]
fn power_cut_while_opening_after_a_power_cut_loses_nothing_either() {
    for call in (1..=calls_of_the_workload(None)).step_by(23) {
        let opening = {
            let (disk, notes) = run_until(call, None);
            let disk = disk.cut_power(Survival::Random(call));
            notes.open(&disk).unwrap();
            disk.calls()
        };
        for second in 1..=opening {
            let (disk, mut notes) = run_until(call, None);
            let disk = disk.cut_power(Survival::Random(call));
            disk.fail(second, Fault::PowerCut);
            let _ = notes.open(&disk);
            let disk = disk.cut_power(Survival::Random(second));
            let store = notes.open(&disk).unwrap();
            check(&store, &mut notes);
            check_works(&disk, store, &mut notes);
        }
    }
}
