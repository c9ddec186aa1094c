//! The power is cut, or the process killed, after every call.

use piton::testing::{Fault, SimDisk, Survival};

use super::workload::{Notes, check, check_works, open, run};

const SURVIVALS: [Survival; 6] = [
    Survival::Nothing,
    Survival::Everything,
    Survival::Random(1),
    Survival::Random(2),
    Survival::Random(3),
    Survival::Random(4),
];

/// A disk on which the workload ran until this call, and what it noted.
fn run_until(call: u64) -> (SimDisk, Notes) {
    let disk = SimDisk::new();
    disk.fail(call, Fault::PowerCut);
    let mut notes = Notes::default();
    if let Ok(store) = open(&disk) {
        let _ = run(&store, &mut notes);
    }
    (disk, notes)
}

fn calls_of_the_workload() -> u64 {
    let disk = SimDisk::new();
    run(&open(&disk).unwrap(), &mut Notes::default()).unwrap();
    let calls = disk.calls();
    assert!(calls > 400, "{calls} calls: the sweep would be too small to mean anything");
    calls
}

#[test]
fn power_cut_after_any_call_loses_no_committed_checkpoint_and_shows_no_other() {
    for call in 1..=calls_of_the_workload() + 1 {
        for survival in SURVIVALS {
            let (disk, mut notes) = run_until(call);
            let disk = disk.cut_power(survival);
            let store = open(&disk).unwrap_or_else(|e| panic!("call {call}, {survival:?}: {e}"));
            check(&store, &mut notes);
            check_works(&disk, store, &mut notes);
        }
    }
}

#[test]
fn checkpoint_that_was_seen_after_a_kill_survives_a_power_cut() {
    for call in 1..=calls_of_the_workload() + 1 {
        let (disk, mut notes) = run_until(call);
        let disk = disk.kill();
        let store = open(&disk).unwrap();
        check(&store, &mut notes);
        let seen = store.checkpoint_ids();
        let disk = disk.cut_power(Survival::Nothing);
        let store = open(&disk).unwrap();
        assert_eq!(store.checkpoint_ids(), seen, "call {call}");
        check(&store, &mut notes);
        check_works(&disk, store, &mut notes);
    }
}

#[test]
fn power_cut_while_opening_after_a_power_cut_loses_nothing_either() {
    let calls = calls_of_the_workload();
    for call in (1..=calls).step_by(23) {
        let opening = {
            let disk = run_until(call).0.cut_power(Survival::Random(call));
            open(&disk).unwrap();
            disk.calls()
        };
        for second in 1..=opening {
            let (disk, mut notes) = run_until(call);
            let disk = disk.cut_power(Survival::Random(call));
            disk.fail(second, Fault::PowerCut);
            let _ = open(&disk);
            let disk = disk.cut_power(Survival::Random(second));
            let store = open(&disk).unwrap();
            check(&store, &mut notes);
            check_works(&disk, store, &mut notes);
        }
    }
}
