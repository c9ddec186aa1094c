//! G5: when failing checkpoints fail the job.

use piton::policy::{
    CheckpointConfig, FailureCounter,
    FailureReason::{self, AsyncPart, Declined, Expired, Finalizing, Io, Other, ShutDown, Subsumed},
    Verdict::{self, FailJob, Ignored, Tolerated},
};

use super::{config, id};

/// What happens to a checkpoint, and what comes of it.
enum Event {
    Fails(u64, FailureReason, Verdict),
    Succeeds(u64),
}
use Event::{Fails, Succeeds};

#[test]
fn failures_count_as_the_rule_says() {
    let rows: &[(&str, u32, &[Event])] = &[
        ("the storage failed", 1, &[Fails(1, Io, Tolerated(1))]),
        ("the asynchronous part failed", 1, &[Fails(1, AsyncPart, Tolerated(1))]),
        ("it was declined", 1, &[Fails(1, Declined, Tolerated(1))]),
        ("it expired", 1, &[Fails(1, Expired, Tolerated(1))]),
        ("it could not be finalised", 1, &[Fails(1, Finalizing, Tolerated(1))]),
        ("it was subsumed", 0, &[Fails(1, Subsumed, Ignored)]),
        ("the job ends", 0, &[Fails(1, ShutDown, Ignored)]),
        ("anything else", 0, &[Fails(1, Other, Ignored)]),
        ("once per id", 1, &[Fails(1, Io, Tolerated(1)), Fails(1, Expired, Ignored), Fails(2, Io, FailJob)]),
        ("ids in any order", 2, &[Fails(3, Io, Tolerated(1)), Fails(1, Io, Tolerated(2)), Fails(2, Io, FailJob)]),
        (
            "ids at or below the last success",
            0,
            &[Succeeds(5), Fails(5, Io, Ignored), Fails(4, Io, Ignored), Fails(6, Io, FailJob)],
        ),
        (
            "a success clears",
            1,
            &[Fails(1, Io, Tolerated(1)), Succeeds(2), Fails(3, Io, Tolerated(1)), Fails(4, Io, FailJob)],
        ),
        (
            "an older success clears nothing",
            1,
            &[Succeeds(5), Fails(6, Io, Tolerated(1)), Succeeds(4), Succeeds(5), Fails(7, Io, FailJob)],
        ),
        ("none is tolerable", 0, &[Fails(1, Io, FailJob)]),
        (
            "the job fails once, and the counter clears",
            1,
            &[
                Fails(1, Io, Tolerated(1)),
                Fails(2, Io, FailJob),
                Fails(2, Expired, Ignored),
                Fails(1, Expired, Ignored),
                Fails(3, Io, Tolerated(1)),
                Fails(4, Io, FailJob),
            ],
        ),
        (
            "unlimited",
            CheckpointConfig::UNLIMITED_TOLERABLE_FAILURE_NUMBER,
            &[Fails(1, Io, Ignored), Fails(2, Io, Ignored)],
        ),
    ];
    for (claim, tolerable, events) in rows {
        let mut failures = FailureCounter::new(&config(|c| c.set_tolerable_checkpoint_failure_number(*tolerable)));
        for event in *events {
            match event {
                Fails(number, reason, verdict) => {
                    assert_eq!(failures.failed(id(*number), *reason), *verdict, "{claim}");
                }
                Succeeds(number) => failures.succeeded(id(*number)),
            }
        }
    }
}

#[test]
fn unlimited_failures_are_not_even_remembered() {
    let mut failures = FailureCounter::new(&config(|c| c.set_fail_on_checkpointing_errors(false)));
    for number in 1..10_000 {
        assert_eq!(failures.failed(id(number), Io), Ignored);
    }
    assert_eq!(failures.count(), 0);
}

#[test]
fn every_reason_says_what_it_is() {
    let reasons = [Io, AsyncPart, Declined, Expired, Finalizing, Subsumed, ShutDown, Other];
    let texts: std::collections::BTreeSet<_> = reasons.iter().map(FailureReason::to_string).collect();
    assert_eq!(texts.len(), reasons.len());
}
