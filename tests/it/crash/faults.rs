//! Every call fails once, in every way: a typed error or success, and everything works again afterwards.

use std::io;

use piton::{
    Error, Store,
    testing::{Fault, SimDisk},
};

use super::workload::{CHECKPOINTS, Mode, Notes, check, check_works, modes, step};

const EINTR: i32 = 4;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Opens until it works; a fault hits once.
fn open_again(disk: &SimDisk, notes: &Notes, fault: Fault) -> Store {
    notes.open(disk).unwrap_or_else(|error| {
        assert_is(&error, fault);
        notes.open(disk).unwrap()
    })
}

/// An error whose cause, or whose cause's cause, is what the disk said.
fn assert_is(error: &Error, fault: Fault) {
    let (Fault::Error(code) | Fault::ErrorAfter(code)) = fault else { panic!("nothing failed, and yet: {error}") };
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let told = causes.any(|cause| cause.downcast_ref().and_then(io::Error::raw_os_error) == Some(code));
    assert!(told, "{error} does not tell of error {code}");
    assert!(code != ENOSPC || error.is_no_space() || error.is_poisoned(), "{error}");
}

/// Runs the whole workload past errors, as an engine would: a failed checkpoint is given up, and a store that says so is
/// reopened.
fn run_past_errors(disk: &SimDisk, notes: &mut Notes, fault: Fault) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut store = open_again(disk, notes, fault);
    for round in 1..=CHECKPOINTS {
        if let Err(error) = step(&store, round, notes) {
            assert_is(&error, fault);
            let again = store.begin_next();
            let must_reopen = error.is_indeterminate() || again.as_ref().is_err_and(Error::is_poisoned);
            assert!(must_reopen || again.is_ok(), "{error}, then {again:?}");
            drop(again);
            if must_reopen {
                drop(store);
                store = open_again(disk, notes, fault);
            }
            check_ids_are_known(&store, notes);
            errors.push(error);
        }
    }
    drop(store);
    errors
}

fn check_ids_are_known(store: &Store, notes: &mut Notes) {
    if store.open_report().damaged.is_empty() {
        notes.settle(&store.checkpoint_ids());
    }
}

fn sweep(fault: Fault) -> u64 {
    modes().map(|mode| sweep_with(fault, mode)).sum()
}

fn sweep_with(fault: Fault, mode: Mode) -> u64 {
    let calls = {
        let disk = SimDisk::new();
        assert!(run_past_errors(&disk, &mut Notes::new(mode), fault).is_empty());
        disk.calls()
    };
    let mut failed = 0;
    for call in 1..=calls {
        let disk = SimDisk::new();
        disk.fail(call, fault);
        let mut notes = Notes::new(mode);
        let errors = run_past_errors(&disk, &mut notes, fault);
        failed += errors.len() as u64;
        let store =
            notes.open(&disk).unwrap_or_else(|e| panic!("call {call}, {mode:?}, {fault:?}: {e}, after {errors:?}"));
        check(&store, &mut notes);
        check_works(&disk, store, &mut notes);
    }
    failed
}

#[test]
fn every_call_fails_once_with_an_input_output_error() {
    assert!(sweep(Fault::Error(EIO)) > 300);
}

#[test]
fn every_call_fails_once_although_it_took_effect() {
    assert!(sweep(Fault::ErrorAfter(EIO)) > 300);
}

#[test]
fn every_call_finds_the_disk_full_once() {
    assert!(sweep(Fault::Error(ENOSPC)) > 300);
}

#[test]
fn every_call_is_interrupted_once() {
    assert!(sweep(Fault::Error(EINTR)) > 100);
}

#[test]
fn every_write_is_short_once_and_nobody_notices() {
    assert_eq!(sweep(Fault::ShortWrite), 0);
}
