//! The power goes, or a call fails, at every call of a coordinator and two members.

use piton::testing::{Call, Fault, SimDisk, Survival};

use super::engine::{Engine, Notes, run, run_past_errors};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn calls() -> u64 {
    let disk = SimDisk::new();
    run(&disk, &mut Notes::default()).unwrap();
    assert!(disk.calls() > 500, "{} calls: the sweep would be too small to mean anything", disk.calls());
    assert!(disk.count(Call::PunchHoles) + disk.count(Call::Remove) > 10);
    disk.calls()
}

/// A disk on which the engine ran until this call, and what it noted.
fn run_until(call: u64) -> (SimDisk, Notes) {
    let (disk, mut notes) = (SimDisk::new(), Notes::default());
    disk.fail(call, Fault::PowerCut);
    let _ = run(&disk, &mut notes);
    (disk, notes)
}

#[test]
fn power_cut_after_any_call_of_store_or_member_loses_no_committed_checkpoint() {
    let survivals = [Survival::Nothing, Survival::Everything, Survival::Random(1), Survival::Random(2)];
    for call in 1..=calls() + 1 {
        let (disk, notes) = run_until(call);
        for survival in survivals {
            let (disk, mut notes) = (disk.cut_power(survival), notes.clone());
            let engine = Engine::start(&disk).unwrap_or_else(|e| panic!("call {call}, {survival:?}: {e}"));
            engine.check(&mut notes);
            engine.check_works(&mut notes);
        }
    }
}

#[test]
fn kill_of_all_processes_after_any_call_loses_nothing() {
    for call in 1..=calls() + 1 {
        let (disk, mut notes) = run_until(call);
        let engine = Engine::start(&disk.kill()).unwrap();
        engine.check(&mut notes);
        engine.check_works(&mut notes);
    }
}

fn sweep(fault: Fault) -> usize {
    let start = |disk: &SimDisk| Engine::start(disk).or_else(|_| Engine::start(disk)).unwrap();
    let mut failed = 0;
    for call in 1..=calls() {
        let (disk, mut notes) = (SimDisk::new(), Notes::default());
        disk.fail(call, fault);
        failed += run_past_errors(start(&disk), &mut notes, start).len();
        let engine = Engine::start(&disk).unwrap_or_else(|e| panic!("call {call}, {fault:?}: {e}"));
        engine.check(&mut notes);
        engine.check_works(&mut notes);
    }
    failed
}

#[test]
fn every_call_of_store_or_member_fails_once() {
    assert!(sweep(Fault::Error(EIO)) > 100);
}

#[test]
fn every_call_of_store_or_member_fails_once_although_it_took_effect() {
    assert!(sweep(Fault::ErrorAfter(EIO)) > 100);
}

#[test]
fn every_call_of_store_or_member_finds_the_disk_full_once() {
    assert!(sweep(Fault::Error(ENOSPC)) > 50);
}
