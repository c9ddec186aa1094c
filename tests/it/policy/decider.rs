//! G4: which request is next, and whether it may start.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use piton::{
    CheckpointKind::{Checkpoint, Savepoint},
    policy::{CheckpointConfig, CheckpointRequest, Choice, QueuedRequest, RequestDecider, RequestId, Situation},
};
use proptest::{prelude::*, test_runner::Config};

use super::{config, ms};

const MAX_QUEUED: usize = 1000;

fn request(kind: piton::CheckpointKind, is_forced: bool, is_periodic: bool, at: u64) -> CheckpointRequest {
    CheckpointRequest { kind, is_forced, is_periodic, at: ms(at) }
}

fn plain() -> RequestDecider {
    RequestDecider::new(&CheckpointConfig::new())
}

/// Everything that is next, one after the other, with nothing in the way.
fn order(decider: &mut RequestDecider) -> Vec<RequestId> {
    let next = || match decider.choose(&Situation::default()) {
        Choice::Start(queued) => Some(queued.id),
        _ => None,
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn better_request_comes_first_in_whatever_order_they_were_made() {
    let rows = [
        ("savepoint before checkpoint", request(Savepoint, false, true, 9), request(Checkpoint, true, false, 1)),
        ("forced before not", request(Checkpoint, true, true, 9), request(Checkpoint, false, false, 1)),
        ("asked for before periodic", request(Checkpoint, false, false, 9), request(Checkpoint, false, true, 1)),
        ("older first", request(Checkpoint, false, true, 1), request(Checkpoint, false, true, 2)),
    ];
    for (claim, better, worse) in rows {
        let (mut one, mut other) = (plain(), plain());
        let ids = [better, worse].map(|request| one.submit(request).id);
        assert_eq!(order(&mut one), ids, "{claim}");
        let ids = [worse, better].map(|request| other.submit(request).id);
        assert_eq!(order(&mut other), [ids[1], ids[0]], "{claim}");
    }
    let mut equal = plain();
    let ids = [0; 5].map(|_| equal.submit(CheckpointRequest::periodic(ms(1))).id);
    assert_eq!(order(&mut equal), ids, "of equals the one that was submitted first");
}

#[test]
fn savepoints_are_forced_and_with_unaligned_nothing_is() {
    let full = Situation { pending: 1, ..Situation::default() };
    for wanted in [CheckpointRequest::savepoint(ms(0)), request(Checkpoint, true, false, 0)] {
        let mut decider = plain();
        decider.submit(wanted);
        assert!(matches!(decider.choose(&full), Choice::Start(queued) if queued.request.is_forced));

        let mut decider = RequestDecider::new(&config(CheckpointConfig::enable_unaligned_checkpoints));
        decider.submit(wanted);
        assert_eq!(decider.choose(&full), Choice::Wait);
        let free = Situation::default();
        assert!(matches!(decider.choose(&free), Choice::Start(queued) if queued.request.is_forced == wanted.is_forced));
    }
}

#[test]
fn what_else_is_going_on_decides_whether_one_starts() {
    let free = Situation { now: ms(1000), last_completion: Some(ms(900)), ..Situation::default() };
    let two = |pending, cleaning| Situation { pending, cleaning, ..free };
    let periodic = CheckpointRequest::periodic(ms(0));
    let asked = CheckpointRequest::checkpoint(ms(0));
    let forced = request(Checkpoint, true, true, 0);
    let savepoint = CheckpointRequest::savepoint(ms(0));
    // The minimum pause is 100 ms, two may be under way.
    let rows = [
        ("nothing is in the way", periodic, free, "start"),
        ("a trigger is in progress", asked, Situation { is_triggering: true, ..free }, "wait"),
        ("a trigger is in progress, forced", forced, Situation { is_triggering: true, ..free }, "wait"),
        ("a trigger is in progress, savepoint", savepoint, Situation { is_triggering: true, ..free }, "wait"),
        ("as many are deleted as may run", asked, two(0, 2), "start"),
        ("more are deleted than may run", asked, two(0, 3), "wait"),
        ("more are deleted than may run, forced", forced, two(0, 3), "wait"),
        ("below the limit", periodic, two(1, 0), "start"),
        ("at the limit", asked, two(2, 0), "wait"),
        ("above the limit", asked, two(3, 0), "wait"),
        ("at the limit, forced", forced, two(2, 0), "start"),
        ("at the limit, savepoint", savepoint, two(2, 0), "start"),
        ("within the pause", periodic, Situation { now: ms(999), ..free }, "1 ms"),
        ("right after the last", periodic, Situation { now: ms(900), ..free }, "100 ms"),
        ("before the last, by a clock that went back", periodic, Situation { now: ms(800), ..free }, "200 ms"),
        ("the pause is over", periodic, Situation { now: ms(1000), ..free }, "start"),
        ("there was no last", periodic, Situation { now: ms(0), last_completion: None, ..free }, "start"),
        ("within the pause, asked for", asked, Situation { now: ms(901), ..free }, "start"),
        ("within the pause, forced", forced, Situation { now: ms(901), ..free }, "start"),
        ("within the pause, savepoint", savepoint, Situation { now: ms(901), ..free }, "start"),
        (
            "within the pause, periodic savepoint",
            request(Savepoint, false, true, 0),
            Situation { now: ms(901), ..free },
            "start",
        ),
        ("within the pause and at the limit", periodic, Situation { now: ms(901), ..two(2, 0) }, "wait"),
    ];
    let config = config(|c| c.set_min_pause_between_checkpoints(ms(100)).set_max_concurrent_checkpoints(2).unwrap());
    for (claim, request, situation, expected) in rows {
        let mut decider = RequestDecider::new(&config);
        let id = decider.submit(request).id;
        let choice = match decider.choose(&situation) {
            Choice::Wait => "wait".to_owned(),
            Choice::Start(queued) if queued.id == id => "start".to_owned(),
            Choice::TooSoon(queued, wait) if queued.id == id => format!("{} ms", wait.as_millis()),
            other => panic!("{claim}: {other:?}"),
        };
        assert_eq!(choice, expected, "{claim}");
        assert_eq!(decider.len(), usize::from(choice == "wait"), "{claim}: what is answered has left");
        assert_eq!(decider.is_empty(), choice != "wait");
    }
    let mut empty = plain();
    assert_eq!(empty.choose(&free), Choice::Wait);
}

#[test]
fn of_too_many_the_worst_is_refused_unless_somebody_asked_for_all_that_wait() {
    let periodic = |at| CheckpointRequest::periodic(ms(at));
    let fill = |with: CheckpointRequest| {
        let mut decider = plain();
        (0..MAX_QUEUED).for_each(|_| assert_eq!(decider.submit(with).refused, None));
        decider
    };
    let mut decider = fill(periodic(5));
    let newer = decider.submit(periodic(6));
    assert_eq!(newer.refused.map(|refused| refused.id), Some(newer.id), "the new one is the worst itself");
    let older = decider.submit(periodic(4));
    let refused = older.refused.unwrap();
    assert!(refused.id != older.id && refused.request == periodic(5), "one that has waited is worse: {refused:?}");
    let asked = decider.submit(CheckpointRequest::checkpoint(ms(9)));
    assert_eq!(asked.refused.map(|refused| refused.request), Some(periodic(5)));
    assert_eq!((decider.len(), decider.has_periodic()), (MAX_QUEUED, true));

    let mut decider = fill(CheckpointRequest::checkpoint(ms(5)));
    let savepoint = decider.submit(CheckpointRequest::savepoint(ms(1)));
    assert_eq!(savepoint.refused.map(|refused| refused.id), Some(savepoint.id), "however good it is");
    assert_eq!((decider.len(), decider.has_periodic()), (MAX_QUEUED, false));
}

/// A step of an engine: submits, or chooses.
#[derive(Clone, Debug)]
enum Step {
    Submit(CheckpointRequest, usize),
    Choose(Situation),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let request =
        (any::<bool>(), any::<bool>(), any::<bool>(), 0..50_u64).prop_map(|(savepoint, forced, periodic, at)| {
            request(if savepoint { Savepoint } else { Checkpoint }, forced, periodic, at)
        });
    let situation = (0..200_u64, prop::bool::weighted(0.1), 0..4_usize, 0..5_usize, prop::option::of(0..100_u64))
        .prop_map(|(now, is_triggering, pending, cleaning, last)| {
            let (now, last_completion) = (ms(now), last.map(ms));
            Situation { now, is_triggering, pending, cleaning, last_completion }
        });
    let submit = (request, prop_oneof![9 => Just(1_usize), 1 => Just(400)]);
    let step =
        prop_oneof![submit.prop_map(|(request, times)| Step::Submit(request, times)), situation.prop_map(Step::Choose)];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(Config { cases: 1000, failure_persistence: None, ..Config::default() })]

    /// The queue never exceeds its bound, the best is chosen by an order that is total, and every request gets one answer.
    #[test]
    fn no_request_is_lost_without_an_answer(steps in steps(), max in 1..3_u32, pause in 0..60_u64, unaligned in any::<bool>()) {
        let config = config(|c| {
            if unaligned {
                c.enable_unaligned_checkpoints();
            }
            c.set_min_pause_between_checkpoints(ms(pause)).set_max_concurrent_checkpoints(max).unwrap()
        });
        let mut decider = RequestDecider::new(&config);
        let mut waiting: Vec<QueuedRequest> = Vec::new();
        let mut answered = BTreeSet::new();
        let mut submitted = BTreeSet::new();
        for step in steps {
            match step {
                Step::Submit(request, times) => for _ in 0..times {
                    let done = decider.submit(request);
                    prop_assert!(submitted.insert(done.id), "an id was given out twice");
                    let is_forced = request.is_forced || (request.kind == Savepoint && !unaligned);
                    waiting.push(QueuedRequest { id: done.id, request: CheckpointRequest { is_forced, ..request } });
                    if let Some(refused) = done.refused {
                        prop_assert_eq!(waiting.len(), MAX_QUEUED + 1, "one is refused only if there are too many");
                        prop_assert!(answered.insert(refused.id));
                        waiting.retain(|queued| queued.id != refused.id);
                    }
                },
                Step::Choose(situation) => {
                    let expected = expected(&waiting, &situation, (max as usize, ms(pause), !unaligned));
                    prop_assert_eq!(decider.peek(&situation), expected);
                    let choice = decider.choose(&situation);
                    prop_assert_eq!(choice, expected);
                    if let Choice::Start(chosen) | Choice::TooSoon(chosen, _) = choice {
                        prop_assert!(answered.insert(chosen.id));
                        waiting.retain(|queued| queued.id != chosen.id);
                    }
                }
            }
            prop_assert_eq!(decider.len(), waiting.len());
            prop_assert!(decider.len() <= MAX_QUEUED);
        }
        waiting.sort_by_key(rank);
        let drained: Vec<_> = decider.drain().collect();
        prop_assert_eq!(&drained, &waiting);
        answered.extend(drained.iter().map(|queued| queued.id));
        prop_assert_eq!(answered, submitted);
        prop_assert!(decider.is_empty());
    }
}

/// The rule, said another way.
fn expected(
    waiting: &[QueuedRequest],
    situation: &Situation,
    (max, pause, may_force): (usize, Duration, bool),
) -> Choice {
    let Some(best) = waiting.iter().min_by_key(|queued| rank(queued)).copied() else { return Choice::Wait };
    let CheckpointRequest { kind, is_forced, is_periodic, .. } = best.request;
    if situation.is_triggering || situation.cleaning > max || (situation.pending >= max && !(is_forced && may_force)) {
        return Choice::Wait;
    }
    let keeps_the_pause = is_periodic && !is_forced && kind == Checkpoint;
    match situation.last_completion {
        Some(last) if keeps_the_pause && last + pause > situation.now => {
            Choice::TooSoon(best, (last + pause).saturating_sub(situation.now))
        }
        _ => Choice::Start(best),
    }
}

/// The order as the rule has it, said another way.
fn rank(queued: &QueuedRequest) -> (u8, u8, u8, Duration, RequestId) {
    let request = &queued.request;
    (
        u8::from(request.kind == Checkpoint),
        u8::from(!request.is_forced),
        u8::from(request.is_periodic),
        request.at,
        queued.id,
    )
}

/// Reports, and asserts nothing about time: `cargo test --release --all-features --test it deciding -- --nocapture`.
#[test]
fn deciding_among_a_thousand_is_reported() {
    let mut decider = plain();
    let mut now = 0;
    let mut submit = |decider: &mut RequestDecider| {
        now += 7;
        decider.submit(request(
            if now % 3 == 0 { Savepoint } else { Checkpoint },
            now % 5 == 0,
            now % 2 == 0,
            now % 1009,
        ))
    };
    assert!((0..MAX_QUEUED).all(|_| submit(&mut decider).refused.is_none()));
    let mut nanos: Vec<u128> = (0..20_000)
        .map(|_| {
            let begun = Instant::now();
            let chosen = decider.choose(&Situation::default());
            let submitted = submit(&mut decider);
            let took = begun.elapsed();
            assert!(matches!(chosen, Choice::Start(_)) && submitted.refused.is_none());
            took.as_nanos()
        })
        .collect();
    assert_eq!(decider.len(), MAX_QUEUED);
    nanos.sort_unstable();
    #[expect(clippy::print_stderr, reason = "a report")]
    {
        eprintln!("choose and submit among {MAX_QUEUED}: median {} ns, p99 {} ns", nanos[10_000], nanos[19_800]);
    }
}
