//! What deciding costs in memory once it has what it needs: nothing.

use std::time::Duration;

use piton::{
    Manifest, Options,
    policy::{
        Acknowledged, CheckpointRequest, Choice, Coordinator, Expiry, FailureCounter, FailureReason, RequestDecider,
        Situation, Verdict,
    },
};

use super::{config, id, ms};
use crate::support::{ROOT, allocations};

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations::during(|| drop(std::hint::black_box(Box::new([7_u8; 100])))), 1);
}

#[test]
fn machines_allocate_nothing_over_any_number_of_checkpoints() {
    let config = config(|c| {
        c.set_min_pause_between_checkpoints(ms(5)).set_tolerable_checkpoint_failure_number(4);
        c.set_checkpoint_timeout(ms(50)).unwrap()
    });
    let (mut decider, mut failures, mut expiry) =
        (RequestDecider::new(&config), FailureCounter::new(&config), Expiry::new(&config));
    // A checkpoint every 10 ms; every third fails, every seventh expires, and some are asked for beside.
    let mut round = |n: u64| {
        let now = ms(10 * n);
        decider.submit(CheckpointRequest::periodic(now));
        decider.submit(CheckpointRequest::checkpoint(now));
        if n.is_multiple_of(5) {
            decider.submit(CheckpointRequest::savepoint(now));
        }
        let situation = Situation { now, last_completion: Some(now.saturating_sub(ms(n % 9))), ..Situation::default() };
        while let Choice::Start(_) | Choice::TooSoon(..) = decider.choose(&situation) {}
        expiry.started(id(n), now);
        if n.is_multiple_of(7) {
            assert_eq!(expiry.expire(now + ms(50)), Some(id(n)));
            assert_ne!(failures.failed(id(n), FailureReason::Expired), Verdict::Ignored);
        } else if n.is_multiple_of(3) {
            failures.failed(id(n), FailureReason::Io);
            expiry.ended(id(n));
        } else {
            failures.succeeded(id(n));
            expiry.ended(id(n));
        }
        assert!(!expiry.has_expired(id(n + 1)) && decider.is_empty());
    };
    (1..100).for_each(&mut round);
    assert_eq!(allocations::during(|| (100..10_000).for_each(&mut round)), 0);
}

#[test]
fn full_queue_allocates_nothing_more() {
    let mut decider = RequestDecider::new(&config(|c| c));
    assert_eq!((0..1001).filter_map(|n| decider.submit(CheckpointRequest::periodic(ms(n))).refused).count(), 1);
    let more = |n: u64| {
        let refused = decider.submit(CheckpointRequest::checkpoint(ms(n))).refused;
        assert!(refused.is_some());
    };
    assert_eq!(allocations::during(|| (0..900).for_each(more)), 0);
}

#[test]
fn tick_with_nothing_to_do_allocates_nothing() {
    let config = config(|c| c.set_checkpoint_interval(Some(ms(1000))).unwrap());
    let store = Options::memory().open(ROOT).unwrap();
    let mut coordinator = Coordinator::new(store, &config, 4, Duration::ZERO).unwrap();
    let quiet = |coordinator: &mut Coordinator, from: u64| {
        let ticks = || (from..from + 900).for_each(|now| assert!(coordinator.tick(ms(now)).is_empty()));
        assert_eq!(allocations::during(ticks), 0, "from {from}");
    };
    quiet(&mut coordinator, 0);
    for round in 1..10 {
        let now = ms(round * 1000);
        assert_eq!(coordinator.tick(now).len(), 1);
        quiet(&mut coordinator, round * 1000 + 1);
        let parts: Vec<_> = (0..4).map(|subtask| coordinator.acknowledge(id(round), subtask, []).unwrap()).collect();
        assert_eq!(parts[3], Acknowledged::Complete);
        coordinator.complete(id(round), Manifest::builder(), now).unwrap();
        quiet(&mut coordinator, round * 1000 + 50);
    }
}
