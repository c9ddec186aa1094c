//! The parts joined with a store. What is fenced off here: a checkpoint that nobody ends, a part that comes late and counts,
//! a request without an answer.

use std::time::Duration;

use piton::{
    CheckpointId, CheckpointKind, ExternalizedCheckpointCleanup, JobOutcome, Manifest, ManifestChanges, Options, Scope,
    StateHandle,
    contract::CheckpointStreamFactory,
    policy::{
        Acknowledged, Action, CheckpointConfig, CheckpointRequest, Coordinator, FailureReason, Refusal, RequestId,
    },
    testing::{Call, Fault, SimDisk},
};

use super::{config, id, ms};
use crate::support::{ROOT, bytes, read_states};

const EIO: i32 = 5;

/// Two subtasks, a checkpoint every 100 ms, a timeout of 1 s.
fn periodic(more: impl FnOnce(&mut CheckpointConfig) -> &mut CheckpointConfig) -> CheckpointConfig {
    config(|c| more(c.set_checkpoint_interval(Some(ms(100))).unwrap().set_checkpoint_timeout(ms(1000)).unwrap()))
}

fn coordinator(config: &CheckpointConfig) -> (SimDisk, Coordinator) {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).open(ROOT).unwrap();
    (disk, Coordinator::new(store, config, 2, Duration::ZERO).unwrap())
}

/// What an action says, in a few words.
fn brief(actions: &[Action]) -> Vec<String> {
    let brief = |action: &Action| match action {
        Action::Trigger { id, options, .. } => format!("trigger {id} {:?}", options.kind()),
        Action::Abort { id, why } => format!("abort {id} {why:?}"),
        Action::Refuse { why: Refusal::MinimumTimeBetweenCheckpoints(wait), .. } => format!("too soon by {wait:?}"),
        Action::Refuse { why: Refusal::Store(error), .. } => format!("refuse, store: {}", error.is_poisoned()),
        Action::Refuse { why, .. } => format!("refuse {why:?}"),
        Action::FailJob => "fail job".to_owned(),
    };
    actions.iter().map(brief).collect()
}

fn tick(coordinator: &mut Coordinator, now: u64) -> Vec<String> {
    brief(&coordinator.tick(ms(now)))
}

fn write(coordinator: &Coordinator, id: CheckpointId, seed: u64) -> StateHandle {
    coordinator.streams(id).unwrap().write(Scope::Shared, &bytes(seed, 5_000)).unwrap()
}

fn acknowledge(coordinator: &mut Coordinator, id: CheckpointId, subtask: usize) -> Acknowledged {
    let state = write(coordinator, id, subtask as u64);
    coordinator.acknowledge(id, subtask, [(format!("part {subtask}"), state)]).unwrap()
}

fn finish(coordinator: &mut Coordinator, id: CheckpointId, now: u64) {
    assert_eq!(acknowledge(coordinator, id, 1), Acknowledged::Waiting(1));
    assert_eq!(acknowledge(coordinator, id, 0), Acknowledged::Complete);
    coordinator.complete(id, Manifest::builder(), ms(now)).unwrap();
}

#[test]
fn checkpoint_is_triggered_when_due_collected_and_committed() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c));
    assert_eq!(coordinator.next_wakeup(), Some(ms(100)));
    assert!(tick(&mut coordinator, 99).is_empty());
    assert_eq!(tick(&mut coordinator, 100), ["trigger 1 Checkpoint"]);
    assert_eq!(coordinator.pending().collect::<Vec<_>>(), [id(1)]);

    let missing = coordinator.complete(id(1), Manifest::builder(), ms(110)).unwrap_err();
    assert!(missing.is_invalid() && missing.to_string().contains("subtask 0"), "{missing}");
    assert_eq!(acknowledge(&mut coordinator, id(1), 0), Acknowledged::Waiting(1));
    assert_eq!(acknowledge(&mut coordinator, id(1), 0), Acknowledged::Duplicate);
    assert_eq!(acknowledge(&mut coordinator, id(1), 1), Acknowledged::Complete);
    let manifest = Manifest::builder().metadata("epoch", b"7");
    let checkpoint = coordinator.complete(id(1), manifest, ms(120)).unwrap();
    let states = read_states(&checkpoint).unwrap();
    assert_eq!(states, [("part 0".to_owned(), bytes(0, 5_000)), ("part 1".to_owned(), bytes(1, 5_000))]);
    assert_eq!(checkpoint.manifest().metadata("epoch"), Some(&b"7"[..]));
    assert_eq!(coordinator.store().usage().logical_files, 2, "what the repeated part wrote is gone");

    assert_eq!(coordinator.acknowledge(id(1), 1, []).unwrap(), Acknowledged::Unknown);
    assert!(coordinator.complete(id(1), Manifest::builder(), ms(130)).unwrap_err().is_not_found());
    assert!(coordinator.streams(id(1)).is_none() && !coordinator.decline(id(1), FailureReason::Declined));
    assert_eq!(tick(&mut coordinator, 200), ["trigger 2 Checkpoint"]);
}

/// What a checkpoint keeps by its base is moved by the commit, to which no subtask can write any more.
#[test]
fn checkpoint_that_goes_on_from_another_is_completed_while_files_should_go() {
    let options = Options::memory().segment_size(64 + 4 * 5056).punch_holes(false).max_space_amplification(Some(1.0));
    let store = options.open(ROOT).unwrap();
    let pending = store.begin_next().unwrap();
    let [kept, ..] = [1, 2, 3, 4].map(|seed| pending.write(Scope::Shared, &bytes(seed, 5000)).unwrap());
    let mut latest = pending.commit(Manifest::builder().state("kept", kept.clone())).unwrap();
    let mut coordinator = Coordinator::new(store.clone(), &periodic(|c| c), 1, Duration::ZERO).unwrap();
    for round in 1..=3 {
        tick(&mut coordinator, round * 100);
        let id = coordinator.pending().next().unwrap();
        // A subtask that names what it kept goes on to name it.
        let named = latest.manifest().state("named").cloned();
        let named = named.unwrap_or_else(|| write(&coordinator, id, 9));
        coordinator.acknowledge(id, 0, [("named".to_owned(), named.clone())]).unwrap();
        let manifest = Manifest::based_on(latest.manifest());
        latest = coordinator.complete(id, manifest, ms(round * 100 + 1)).unwrap();
        assert_eq!(latest.manifest().state("named"), Some(&named));
        let _ = store.prune(1).unwrap();
    }
    let moved = latest.manifest().state("kept").unwrap();
    assert!(*moved != kept && *latest.read(moved).unwrap() == *bytes(1, 5000));
}

#[test]
fn late_tick_begins_one_checkpoint_and_the_next_an_interval_later() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c));
    assert_eq!(tick(&mut coordinator, 950), ["trigger 1 Checkpoint"]);
    // It is under way: one more waits, however often one was due.
    for now in [1050, 1150, 1250] {
        assert!(tick(&mut coordinator, now).is_empty());
    }
    finish(&mut coordinator, id(1), 1349);
    assert_eq!(tick(&mut coordinator, 1349), ["trigger 2 Checkpoint"]);
    finish(&mut coordinator, id(2), 1349);
    assert!(tick(&mut coordinator, 1448).is_empty(), "an interval from the start of the last one");
    assert_eq!(tick(&mut coordinator, 1449), ["trigger 3 Checkpoint"]);
}

#[test]
fn parts_that_do_not_fit_are_refused_and_may_be_given_again() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c));
    tick(&mut coordinator, 100);
    let part = |name: &str| (name.to_owned(), StateHandle::inline(b"x"));
    let error = coordinator.acknowledge(id(1), 2, [part("a")]).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("2 subtasks"), "{error}");
    let error = coordinator.acknowledge(id(1), 0, [part("a"), part("a")]).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("\"a\""), "{error}");
    coordinator.acknowledge(id(1), 0, [part("a")]).unwrap();
    assert!(coordinator.acknowledge(id(1), 1, [part("b"), part("a")]).unwrap_err().is_invalid());
    assert_eq!(coordinator.acknowledge(id(1), 1, [part("b")]).unwrap(), Acknowledged::Complete);
    let clash = Manifest::builder().state("b", StateHandle::inline(b"y"));
    assert!(coordinator.complete(id(1), clash, ms(101)).unwrap_err().is_invalid());
    let checkpoint = coordinator.complete(id(1), Manifest::builder(), ms(101)).unwrap();
    assert_eq!(checkpoint.manifest().states().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn configuration_that_does_not_fit_and_no_subtasks_are_refused() {
    let store = Options::memory().open(ROOT).unwrap();
    let unfit = config(|c| c.enable_unaligned_checkpoints().set_max_concurrent_checkpoints(2).unwrap());
    assert!(Coordinator::new(store.clone(), &unfit, 1, Duration::ZERO).unwrap_err().is_invalid());
    assert!(Coordinator::new(store, &CheckpointConfig::new(), 0, Duration::ZERO).unwrap_err().is_invalid());
}

#[test]
fn checkpoint_that_takes_too_long_expires_and_its_late_part_is_told() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c.set_tolerable_checkpoint_failure_number(1)));
    tick(&mut coordinator, 100);
    let streams = coordinator.streams(id(1)).unwrap();
    let late = write(&coordinator, id(1), 1);
    assert!(tick(&mut coordinator, 1099).is_empty());
    assert_eq!(tick(&mut coordinator, 1100), ["abort 1 Expired", "trigger 2 Checkpoint"]);
    assert_eq!(coordinator.acknowledge(id(1), 0, [("late".to_owned(), late)]).unwrap(), Acknowledged::Expired);
    assert!(streams.check_active().unwrap_err().is_invalid() && streams.create_stream(Scope::Shared).is_err());
    assert_eq!(coordinator.store().usage().logical_files, 0);
    assert_eq!(tick(&mut coordinator, 2100), ["abort 2 Expired", "fail job", "trigger 3 Checkpoint"]);
}

#[test]
fn declined_checkpoint_is_aborted_and_counts() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c));
    tick(&mut coordinator, 100);
    assert!(coordinator.decline(id(1), FailureReason::Other));
    tick(&mut coordinator, 150);
    assert_eq!(coordinator.next_wakeup(), Some(ms(200)), "and cannot expire");
    assert!(coordinator.tick(ms(151)).is_empty());
    tick(&mut coordinator, 200);
    assert!(coordinator.decline(id(2), FailureReason::Other));
    assert_eq!(coordinator.next_wakeup(), Some(Duration::ZERO), "somebody is to be told");
    assert_eq!(tick(&mut coordinator, 201), ["abort 2 Other"]);
    tick(&mut coordinator, 300);
    assert!(coordinator.decline(id(3), FailureReason::AsyncPart));
    assert_eq!(tick(&mut coordinator, 301), ["abort 3 AsyncPart", "fail job"]);
    assert_eq!(coordinator.acknowledge(id(3), 0, []).unwrap(), Acknowledged::Unknown);
    assert!(tick(&mut coordinator, 1400)[0].starts_with("trigger"), "what was declined does not expire");
    assert_eq!(coordinator.acknowledge(id(3), 0, []).unwrap(), Acknowledged::Unknown);
}

#[test]
fn commit_that_fails_counts_and_the_next_one_works() {
    let (disk, mut coordinator) = coordinator(&periodic(|c| c));
    tick(&mut coordinator, 100);
    acknowledge(&mut coordinator, id(1), 0);
    acknowledge(&mut coordinator, id(1), 1);
    disk.fail_nth(Call::CreateTemp, 1, Fault::Error(EIO));
    let error = coordinator.complete(id(1), Manifest::builder(), ms(110)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EIO));
    assert_eq!(tick(&mut coordinator, 111), ["abort 1 Finalizing", "fail job"]);
    assert_eq!(tick(&mut coordinator, 200), ["trigger 2 Checkpoint"]);
    finish(&mut coordinator, id(2), 210);
    assert_eq!(coordinator.store().checkpoint_ids(), [id(2)]);
}

#[test]
fn store_that_must_be_reopened_fails_the_job_once_whatever_is_tolerable() {
    // Which syncs of the commit fail; whether the outcome is unknown; what is said of the checkpoint.
    let unnamed = (Call::SyncDir, 1..2, false, vec!["abort 2 Finalizing", "fail job"]);
    // Those of the log, behind those of two segments: that of the record, and those that would make it void. The engine is
    // not told that the checkpoint came to nothing.
    let unknown = (Call::SyncData, 3..13, true, vec!["fail job"]);
    for ((call, syncs, is_unknown, said), tolerable) in
        [unnamed, unknown].into_iter().flat_map(|row| [0, 3, u32::MAX].map(|n| (row.clone(), n)))
    {
        let (disk, mut coordinator) = coordinator(&periodic(|c| c.set_tolerable_checkpoint_failure_number(tolerable)));
        tick(&mut coordinator, 100);
        // Whatever the first commit of an open store makes is there then, but for the directory of exclusive states.
        finish(&mut coordinator, id(1), 110);
        tick(&mut coordinator, 200);
        acknowledge(&mut coordinator, id(2), 0);
        acknowledge(&mut coordinator, id(2), 1);
        let streams = coordinator.streams(id(2)).unwrap();
        let exclusive = streams.write(Scope::Exclusive, &bytes(1, 5_000)).unwrap();
        for nth in syncs {
            disk.fail_nth(call, nth, Fault::Error(EIO));
        }
        let manifest = Manifest::builder().state("exclusive", exclusive);
        let error = coordinator.complete(id(2), manifest, ms(210)).unwrap_err();
        assert_eq!(error.is_indeterminate(), is_unknown, "{error}");
        assert_eq!(tick(&mut coordinator, 211), said);
        for now in [300, 400, 500] {
            assert_eq!(tick(&mut coordinator, now), ["refuse, store: true"]);
        }
        coordinator.request(CheckpointRequest::savepoint(ms(501)));
        assert_eq!(tick(&mut coordinator, 501), ["refuse, store: true"]);
        drop((coordinator, streams));
        disk.heal();
        // What would have made the record void was written, if not synced.
        assert_eq!(Options::new().disk(disk).open(ROOT).unwrap().checkpoint_ids(), [id(1)]);
    }
}

#[test]
fn store_that_somebody_else_has_taken_over_triggers_nothing_any_more() {
    let (disk, mut coordinator) = coordinator(&periodic(|c| c.set_fail_on_checkpointing_errors(false)));
    tick(&mut coordinator, 100);
    acknowledge(&mut coordinator, id(1), 0);
    acknowledge(&mut coordinator, id(1), 1);
    disk.break_locks();
    let _successor = Options::new().disk(disk).open(ROOT).unwrap();
    assert!(coordinator.complete(id(1), Manifest::builder(), ms(110)).unwrap_err().is_fenced());
    assert_eq!(tick(&mut coordinator, 111), ["abort 1 Finalizing", "fail job"]);
    assert_eq!(tick(&mut coordinator, 200), ["refuse, store: false"]);
}

#[test]
fn store_that_breaks_under_a_subtask_fails_the_job_when_that_declines() {
    let disk = SimDisk::new();
    let store = Options::new().disk(disk.clone()).durability(piton::Durability::PerState).open(ROOT).unwrap();
    let config = periodic(|c| c.set_max_concurrent_checkpoints(2).unwrap().set_fail_on_checkpointing_errors(false));
    let mut coordinator = Coordinator::new(store, &config, 2, Duration::ZERO).unwrap();
    tick(&mut coordinator, 100);
    tick(&mut coordinator, 200);
    let streams = coordinator.streams(id(2)).unwrap();
    disk.fail_nth(Call::SyncDir, 1, Fault::Error(EIO));
    streams.write(Scope::Shared, &bytes(1, 5_000)).unwrap_err();
    assert!(streams.check_active().unwrap_err().is_poisoned());
    coordinator.decline(id(2), FailureReason::AsyncPart);
    assert_eq!(tick(&mut coordinator, 210), ["abort 2 AsyncPart", "fail job"]);
    coordinator.decline(id(1), FailureReason::AsyncPart);
    assert_eq!(tick(&mut coordinator, 211), ["abort 1 AsyncPart"]);
}

#[test]
fn success_forgives_the_failures_before_it() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c.set_tolerable_checkpoint_failure_number(1)));
    for round in [1, 3, 5] {
        tick(&mut coordinator, round * 100);
        coordinator.decline(id(round), FailureReason::Declined);
        assert_eq!(tick(&mut coordinator, round * 100 + 1), [format!("abort {round} Declined")]);
        tick(&mut coordinator, round * 100 + 100);
        finish(&mut coordinator, id(round + 1), round * 100 + 110);
    }
}

#[test]
fn checkpoint_whose_part_is_still_being_written_is_still_under_way() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c));
    tick(&mut coordinator, 100);
    let streams = coordinator.streams(id(1)).unwrap();
    acknowledge(&mut coordinator, id(1), 0);
    acknowledge(&mut coordinator, id(1), 1);
    let again = streams.create_stream(Scope::Shared).unwrap();
    let error = coordinator.complete(id(1), Manifest::builder(), ms(110)).unwrap_err();
    assert!(error.is_invalid() && error.to_string().contains("still open"), "{error}");
    assert!(tick(&mut coordinator, 111).is_empty() && coordinator.pending().eq([id(1)]));
    drop(again);
    coordinator.complete(id(1), Manifest::builder(), ms(112)).unwrap();
}

#[test]
fn engine_that_sleeps_until_it_is_woken_misses_nothing() {
    let (_, mut coordinator) = coordinator(&CheckpointConfig::new());
    let now = Some(Duration::ZERO);
    assert_eq!(coordinator.next_wakeup(), None);
    coordinator.request(CheckpointRequest::checkpoint(ms(1)));
    assert_eq!(coordinator.next_wakeup(), now, "somebody asked");
    tick(&mut coordinator, 1);
    let timeout = Some(ms(600_001));
    assert_eq!(coordinator.next_wakeup(), timeout, "it is under way");
    coordinator.request(CheckpointRequest::checkpoint(ms(2)));
    assert_eq!(coordinator.next_wakeup(), timeout, "it has to wait");
    finish(&mut coordinator, id(1), 3);
    assert_eq!(coordinator.next_wakeup(), now, "it may start");
    coordinator.set_cleaning(2);
    assert_eq!(coordinator.next_wakeup(), None);
    coordinator.set_cleaning(0);
    assert_eq!(coordinator.next_wakeup(), now);
    assert_eq!(tick(&mut coordinator, 4), ["trigger 2 Checkpoint"]);
}

#[test]
fn what_is_too_soon_makes_nothing_due_that_was_not() {
    let paused = |c: &mut CheckpointConfig| c.set_min_pause_between_checkpoints(ms(80)).clone();
    for mut config in [CheckpointConfig::new(), periodic(|c| c)] {
        let (_, mut coordinator) = coordinator(&paused(&mut config));
        coordinator.request(CheckpointRequest::checkpoint(ms(1)));
        tick(&mut coordinator, 1);
        finish(&mut coordinator, id(1), 10);
        coordinator.stop();
        coordinator.request(CheckpointRequest::periodic(ms(20)));
        assert_eq!(tick(&mut coordinator, 20), ["too soon by 70ms"]);
        assert_eq!(coordinator.next_wakeup(), None);
        assert!(tick(&mut coordinator, 9_000).is_empty());
    }
}

#[test]
fn newer_checkpoint_that_is_committed_first_ends_the_older_ones() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c.set_max_concurrent_checkpoints(3).unwrap()));
    for now in [100, 200, 300] {
        tick(&mut coordinator, now);
    }
    finish(&mut coordinator, id(2), 310);
    assert_eq!(tick(&mut coordinator, 311), ["abort 1 Subsumed"]);
    assert_eq!(coordinator.pending().collect::<Vec<_>>(), [id(3)]);
    finish(&mut coordinator, id(3), 320);
    assert_eq!(coordinator.store().checkpoint_ids(), [id(2), id(3)]);
}

#[test]
fn savepoint_goes_beside_what_is_under_way_and_holds_nothing_up() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c));
    tick(&mut coordinator, 100);
    let wanted = coordinator.request(CheckpointRequest::savepoint(ms(110)));
    let actions = coordinator.tick(ms(110));
    assert!(matches!(actions[..], [Action::Trigger { request, .. }] if request == wanted), "{actions:?}");
    coordinator.request(CheckpointRequest::savepoint(ms(111)));
    assert_eq!(tick(&mut coordinator, 111), ["trigger 3 Savepoint"]);
    finish(&mut coordinator, id(1), 115);
    // Later checkpoints are begun and committed while savepoints are under way, and end none of them.
    assert_eq!(tick(&mut coordinator, 200), ["trigger 4 Checkpoint"]);
    finish(&mut coordinator, id(4), 215);
    assert!(tick(&mut coordinator, 220).is_empty());
    assert_eq!(coordinator.pending().collect::<Vec<_>>(), [2, 3].map(id));
    finish(&mut coordinator, id(2), 230);
    assert_eq!(coordinator.store().checkpoint(id(2)).unwrap().manifest().kind(), CheckpointKind::Savepoint);
    assert_eq!(coordinator.store().checkpoint_ids(), [1, 2, 4].map(id));
    assert_eq!(coordinator.store().latest().unwrap().unwrap().id(), id(4));
    // The engine is told of one that fails, and the job goes on.
    coordinator.decline(id(3), FailureReason::Declined);
    assert_eq!(tick(&mut coordinator, 232), ["abort 3 Declined"]);
    assert_eq!(tick(&mut coordinator, 300), ["trigger 5 Checkpoint"]);
}

#[test]
fn minimum_pause_puts_off_what_is_due_and_not_what_is_asked_for() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c.set_min_pause_between_checkpoints(ms(80))));
    tick(&mut coordinator, 100);
    finish(&mut coordinator, id(1), 170);
    assert_eq!(tick(&mut coordinator, 200), ["too soon by 50ms"]);
    assert_eq!(coordinator.next_wakeup(), Some(ms(250)));
    coordinator.request(CheckpointRequest::checkpoint(ms(201)));
    assert_eq!(tick(&mut coordinator, 201), ["trigger 2 Checkpoint"]);
    finish(&mut coordinator, id(2), 202);
    assert_eq!(tick(&mut coordinator, 250), ["too soon by 32ms"]);
    assert_eq!(tick(&mut coordinator, 282), ["trigger 3 Checkpoint"]);
}

#[test]
fn periodic_request_of_the_engine_brings_nothing_forward() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c.set_min_pause_between_checkpoints(ms(30))));
    tick(&mut coordinator, 100);
    finish(&mut coordinator, id(1), 110);
    coordinator.request(CheckpointRequest::periodic(ms(115)));
    assert_eq!(tick(&mut coordinator, 115), ["too soon by 25ms"]);
    assert!(tick(&mut coordinator, 199).is_empty());
    assert_eq!(tick(&mut coordinator, 200), ["trigger 2 Checkpoint"]);
}

#[test]
fn deletions_that_wait_put_off_everything() {
    let (_, mut coordinator) = coordinator(&periodic(|c| c));
    coordinator.set_cleaning(2);
    assert!(tick(&mut coordinator, 100).is_empty());
    coordinator.set_cleaning(1);
    assert_eq!(tick(&mut coordinator, 101), ["trigger 1 Checkpoint"]);
}

#[test]
fn every_request_is_answered_by_the_end() {
    let (_, mut coordinator) = coordinator(&CheckpointConfig::new());
    assert_eq!(coordinator.next_wakeup(), None);
    let asked: Vec<RequestId> = (0..1002).map(|n| coordinator.request(CheckpointRequest::checkpoint(ms(n)))).collect();
    let mut actions = coordinator.tick(ms(2000));
    actions.extend(coordinator.stop());
    let answered = |action: &Action| match action {
        Action::Trigger { request, .. } | Action::Refuse { request, .. } => Some(*request),
        _ => None,
    };
    let mut answers: Vec<_> = actions.iter().filter_map(answered).collect();
    answers.sort_unstable();
    assert_eq!(answers, asked);
    let brief = brief(&actions);
    assert_eq!(brief[..3], ["refuse TooManyRequests", "refuse TooManyRequests", "trigger 1 Checkpoint"]);
    assert_eq!(brief[3], "abort 1 ShutDown");
    assert_eq!(brief[4..].iter().filter(|text| *text == "refuse ShutDown").count(), 999);
    assert!(coordinator.pending().next().is_none() && coordinator.tick(ms(9000)).is_empty());
}

#[test]
fn end_of_the_job_applies_the_configuration_whatever_the_store_was_opened_with() {
    for (outcome, left) in [(JobOutcome::Cancelled, 1), (JobOutcome::Finished, 0)] {
        let config =
            periodic(|c| c.set_externalized_checkpoint_cleanup(ExternalizedCheckpointCleanup::RetainOnCancellation));
        let (disk, mut coordinator) = coordinator(&config);
        tick(&mut coordinator, 100);
        finish(&mut coordinator, id(1), 110);
        tick(&mut coordinator, 200);
        write(&coordinator, id(2), 5);
        let report = coordinator.end_job(outcome, config.externalized_checkpoint_cleanup()).unwrap();
        assert_eq!(report.checkpoints.len(), 1 - left);
        let store = Options::new().disk(disk).open(ROOT).unwrap();
        assert_eq!((store.checkpoint_ids().len(), store.usage().logical_files), (left, 2 * left as u64));
    }
}

#[test]
fn state_that_a_part_changes_is_refused_from_a_subtask_and_in_the_manifest() {
    let (disk, mut coordinator) = coordinator(&periodic(|c| c));
    let membership = coordinator.store().admit().unwrap();
    let member = Options::new().disk(disk.clone()).join(ROOT, &membership).unwrap();
    let handle = || StateHandle::inline(b"own");
    for round in 1..=4_u64 {
        tick(&mut coordinator, round * 100);
        let changes = ManifestChanges::new().state("set", handle()).remove_state("removed");
        let part = member.begin(id(round), None).unwrap().prepare(changes).unwrap();
        let name = if round % 2 == 0 { "set" } else { "removed" };
        if round < 3 {
            let state = [(name.to_owned(), handle())];
            coordinator.acknowledge(id(round), 0, state).unwrap();
            let error = coordinator.acknowledge_part(id(round), 1, &part).unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains(name), "{error}");
        } else {
            coordinator.acknowledge_part(id(round), 1, &part).unwrap();
            let error = coordinator.acknowledge(id(round), 0, [(name.to_owned(), handle())]).unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains(name), "{error}");
            coordinator.acknowledge(id(round), 0, []).unwrap();
            let manifest = Manifest::builder().state(name, handle());
            let error = coordinator.complete(id(round), manifest, ms(round * 100)).unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains(name), "{error}");
        }
        coordinator.decline(id(round), FailureReason::Declined);
    }
}

#[test]
fn parts_of_members_are_acknowledged_like_those_of_subtasks() {
    let (disk, mut coordinator) = coordinator(&periodic(|c| c));
    let join = |coordinator: &Coordinator| {
        Options::new().disk(disk.clone()).join(ROOT, &coordinator.store().admit().unwrap()).unwrap()
    };
    let members = [join(&coordinator), join(&coordinator)];
    let mut newest: Option<piton::Checkpoint> = None;
    for round in 1..=3_u64 {
        assert_eq!(tick(&mut coordinator, round * 100), [format!("trigger {round} Checkpoint")]);
        let since = newest.as_ref().map(piton::Checkpoint::id);
        let part = |subtask: usize| {
            let pending = members[subtask].begin(id(round), since).unwrap();
            let handle = pending.write(Scope::Shared, &bytes(round, 5000)).unwrap();
            pending.prepare(ManifestChanges::new().state(format!("{subtask}-{round}"), handle)).unwrap()
        };
        let (one, two) = (part(0), part(1));
        assert_eq!(coordinator.acknowledge_part(id(round), 0, &one).unwrap(), Acknowledged::Waiting(1));
        assert_eq!(coordinator.acknowledge_part(id(round), 0, &one).unwrap(), Acknowledged::Duplicate);
        assert!(coordinator.acknowledge_part(id(round), 1, &one).unwrap_err().is_invalid(), "that of another subtask");
        assert_eq!(coordinator.acknowledge_part(id(round), 1, &two).unwrap(), Acknowledged::Complete);
        let manifest = match &newest {
            None => Manifest::builder(),
            Some(newest) => {
                let wrong = coordinator.complete(id(round), Manifest::builder(), ms(round * 100)).unwrap_err();
                assert!(wrong.part_fault().is_some(), "it is under way still: {wrong}");
                Manifest::based_on(newest.manifest())
            }
        };
        newest = Some(coordinator.complete(id(round), manifest, ms(round * 100)).unwrap());
        assert_eq!(newest.as_ref().unwrap().manifest().states().count() as u64, 2 * round);
    }
}
