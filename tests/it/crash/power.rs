//! The power is cut, or the process killed, after every call.

use piton::{
    Merging,
    testing::{Call, Fault, SimDisk, Survival},
};

use super::workload::{Mode, Notes, check, check_works, modes, run};

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
fn run_until(call: u64, mode: Mode) -> (SimDisk, Notes) {
    let disk = SimDisk::new();
    disk.fail(call, Fault::PowerCut);
    let mut notes = Notes::new(mode);
    if let Ok(store) = notes.open(&disk) {
        let _ = run(&store, &mut notes);
    }
    (disk, notes)
}

fn calls_of_the_workload(mode: Mode) -> u64 {
    let disk = SimDisk::new();
    let mut notes = Notes::new(mode);
    run(&notes.open(&disk).unwrap(), &mut notes).unwrap();
    let calls = disk.calls();
    assert!(calls > 350, "{calls} calls: the sweep would be too small to mean anything");
    if mode.merging == Merging::AcrossCheckpoints {
        assert!(notes.relocated > 0, "nothing is relocated in {mode:?}");
        assert!(mode.retain.is_none() || disk.count(Call::PunchHoles) > 0, "nothing is punched in {mode:?}");
    }
    calls
}

/// Runs a test with each number of calls in each mode.
fn after_every_call(test: impl Fn(u64, Mode)) {
    for mode in modes() {
        (1..=calls_of_the_workload(mode) + 1).for_each(|call| test(call, mode));
    }
}

#[test]
fn power_cut_after_any_call_loses_no_committed_checkpoint_and_shows_no_other() {
    after_every_call(|call, mode| {
        let (disk, notes) = run_until(call, mode);
        for survival in SURVIVALS {
            let (disk, mut notes) = (disk.cut_power(survival), notes.clone());
            let store = notes.open(&disk).unwrap_or_else(|e| panic!("call {call}, {mode:?}, {survival:?}: {e}"));
            check(&store, &mut notes);
            check_works(&disk, store, &mut notes);
        }
    });
}

#[test]
fn checkpoint_that_was_seen_after_a_kill_survives_a_power_cut() {
    after_every_call(|call, mode| {
        let (disk, mut notes) = run_until(call, mode);
        let disk = disk.kill();
        let store = notes.open(&disk).unwrap();
        check(&store, &mut notes);
        let seen = store.checkpoint_ids();
        let disk = disk.cut_power(Survival::Nothing);
        let store = notes.open(&disk).unwrap();
        assert_eq!(store.checkpoint_ids(), seen, "call {call}, {mode:?}");
        check(&store, &mut notes);
        check_works(&disk, store, &mut notes);
    });
}

#[test]
fn power_cut_while_opening_after_a_power_cut_loses_nothing_either() {
    for mode in modes() {
        (1..=calls_of_the_workload(mode)).step_by(23).for_each(|call| cut_power_while_opening(call, mode));
    }
}

fn cut_power_while_opening(call: u64, mode: Mode) {
    let opening = {
        let (disk, notes) = run_until(call, mode);
        let disk = disk.cut_power(Survival::Random(call));
        notes.open(&disk).unwrap();
        disk.calls()
    };
    for second in 1..=opening {
        let (disk, mut notes) = run_until(call, mode);
        let disk = disk.cut_power(Survival::Random(call));
        disk.fail(second, Fault::PowerCut);
        let _ = notes.open(&disk);
        let disk = disk.cut_power(Survival::Random(second));
        let store = notes.open(&disk).unwrap();
        check(&store, &mut notes);
        check_works(&disk, store, &mut notes);
    }
}
