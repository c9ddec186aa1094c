//! Every order in which two members and three checkpoints can go on, against a model that is simple enough to be right.
//!
//! Each checkpoint is begun, gets a part of each member (prepared, then accepted or lost), and is committed, or aborted. Between
//! any two of these steps a member may be dismissed, whose place another one takes; a checkpoint may be forgotten; the store may
//! delete what it takes for garbage. After each step all that the model says is there is read, and all that it says is
//! refused is refused.

use std::collections::{BTreeMap, BTreeSet};

use piton::{
    Checkpoint, Manifest, ManifestChanges, Member, Options, Part, PartFault, PendingCheckpoint, PendingPart, Scope,
    StateHandle, Store, testing::SimDisk,
};
use proptest::{prelude::*, test_runner::Config};

use super::{names, options};
use crate::support::{ROOT, bytes, read_states};

const CHECKPOINTS: usize = 3;
const MEMBERS: usize = 2;

/// What is known of the share of one member in one checkpoint.
#[derive(Debug, Default)]
enum Share {
    #[default]
    None,
    Writing(PendingPart, Vec<(String, StateHandle)>),
    /// The part, and which of the processes of this place prepared it.
    Prepared(Box<Part>, usize),
    Accepted,
    Lost,
}

struct Attempt {
    pending: Option<PendingCheckpoint>,
    shares: [Share; MEMBERS],
    /// What the accepted parts name, by name, with the seed of its bytes.
    content: BTreeMap<String, u64>,
}

struct World {
    disk: SimDisk,
    options: Options,
    store: Store,
    members: Vec<Member>,
    /// How many processes had the place before.
    lives: [usize; MEMBERS],
    /// The number of the last accepted part of each member.
    accepted: [u64; MEMBERS],
    attempts: Vec<Attempt>,
    committed: Vec<(Checkpoint, BTreeMap<String, u64>)>,
    highest: usize,
    seed: u64,
}

const LENS: [usize; 4] = [700, 3000, 9000, 30];

fn len_of(seed: u64) -> usize {
    LENS[usize::try_from(seed).unwrap() % LENS.len()]
}

impl World {
    fn new(segment_size: u64) -> Self {
        let disk = SimDisk::new();
        let options = options(&disk).segment_size(segment_size).write_buffer(4000).inline_threshold(40);
        let store = options.clone().max_space_amplification(Some(1.2)).open(ROOT).unwrap();
        let members = (0..MEMBERS).map(|_| options.clone().join(ROOT, &store.admit().unwrap()).unwrap()).collect();
        let begin = |_| Attempt {
            pending: Some(store.begin_next().unwrap()),
            shares: Default::default(),
            content: BTreeMap::new(),
        };
        let attempts = (0..CHECKPOINTS).map(begin).collect();
        let (lives, accepted, committed) = ([0; MEMBERS], [0; MEMBERS], Vec::new());
        Self { disk, options, store, members, lives, accepted, attempts, committed, highest: 0, seed: 0 }
    }

    fn step(&mut self, what: u8, which: u8) {
        let (c, m) = (usize::from(which) % CHECKPOINTS, usize::from(which) / CHECKPOINTS % MEMBERS);
        match what % 12 {
            0..=2 => self.write(c, m),
            3 | 4 => self.prepare(c, m),
            5 | 6 => self.accept(c, m),
            7 => self.commit(c),
            8 if which.is_multiple_of(3) => drop(self.attempts[c].pending.take()),
            8 => self.attempts[c].shares[m] = Share::Lost,
            9 => self.dismiss(m),
            10 => self.forget(),
            _ => self.clean(),
        }
        self.check();
    }

    fn write(&mut self, c: usize, m: usize) {
        let id = piton::CheckpointId::new(c as u64 + 1).unwrap();
        let share = &mut self.attempts[c].shares[m];
        if matches!(share, Share::None) {
            *share = Share::Writing(self.members[m].begin(id, None).unwrap(), Vec::new());
        }
        if let Share::Writing(pending, written) = share {
            self.seed += 1;
            let handle = pending.write([Scope::Shared, Scope::Exclusive][m], &bytes(self.seed, len_of(self.seed)));
            written.push((format!("{c}-{m}-{}", self.seed), handle.unwrap()));
        }
    }

    fn prepare(&mut self, c: usize, m: usize) {
        let share = &mut self.attempts[c].shares[m];
        match std::mem::take(share) {
            Share::Writing(pending, written) => {
                let named = written.into_iter().filter(|(name, _)| !name.ends_with('7'));
                let changes = named.fold(ManifestChanges::new(), |changes, (name, handle)| changes.state(name, handle));
                *share = Share::Prepared(Box::new(pending.prepare(changes).unwrap()), self.lives[m]);
            }
            other => *share = other,
        }
    }

    fn accept(&mut self, c: usize, m: usize) {
        let Attempt { pending, shares, content } = &mut self.attempts[c];
        let (Share::Prepared(part, life), Some(pending)) = (&shares[m], pending) else { return };
        let number = number(part);
        let expected = if *life < self.lives[m] {
            Some(PartFault::Dismissed)
        } else if number <= self.accepted[m] {
            Some(PartFault::Late { number, last: self.accepted[m] })
        } else {
            None
        };
        match (pending.accept(part), expected) {
            (Ok(()), None) => {
                pending.accept(part).unwrap();
                self.accepted[m] = number;
                let names = part_names(part);
                content.extend(names.into_iter().map(|name| (name.clone(), seed_of(&name))));
                shares[m] = Share::Accepted;
            }
            (Err(error), Some(fault)) => assert_eq!(error.part_fault(), Some(fault), "{error}"),
            (done, expected) => panic!("{done:?}, not {expected:?}"),
        }
    }

    fn commit(&mut self, c: usize) {
        let Some(pending) = self.attempts[c].pending.take() else { return };
        let content = std::mem::take(&mut self.attempts[c].content);
        match pending.commit(Manifest::builder()) {
            Ok(checkpoint) => {
                assert!(c >= self.highest, "below one that was committed");
                self.highest = c;
                self.committed.push((checkpoint, content));
            }
            Err(error) => assert!(c < self.highest && error.is_invalid(), "{}", *error),
        }
    }

    /// Another process takes the place. What the one before was writing can never be prepared.
    fn dismiss(&mut self, m: usize) {
        let next = self.options.clone().join(ROOT, &self.store.admit().unwrap()).unwrap();
        let gone = std::mem::replace(&mut self.members[m], next);
        assert!(self.store.dismiss(gone.membership()).unwrap().failures.is_empty());
        (self.lives[m], self.accepted[m]) = (self.lives[m] + 1, 0);
        for attempt in &mut self.attempts {
            if let Share::Writing(..) = attempt.shares[m] {
                let Share::Writing(pending, _) = std::mem::replace(&mut attempt.shares[m], Share::Lost) else { return };
                assert!(pending.prepare(ManifestChanges::new()).unwrap_err().is_fenced());
            }
        }
    }

    fn forget(&mut self) {
        if self.committed.len() > 1 {
            let (checkpoint, _) = self.committed.remove(0);
            let id = checkpoint.id();
            drop(checkpoint);
            assert!(self.store.forget(id).unwrap().failures.is_empty());
        }
    }

    fn clean(&self) {
        assert!(self.store.maintain(u64::MAX).unwrap().failures.is_empty());
        let found = self.store.cleanup_orphans(false).unwrap();
        assert!(found.failures.is_empty(), "{found:?}");
        self.members.iter().for_each(|member| member.shed(&self.store.worn()));
    }

    /// All that was committed is there. All that is prepared and can still be accepted is whole: it is accepted in the end.
    fn check(&self) {
        for (checkpoint, content) in &self.committed {
            let read = read_states(checkpoint).unwrap();
            assert_eq!(read.len(), content.len());
            assert!(read.iter().all(|(name, read)| *read == bytes(content[name], len_of(content[name]))));
        }
    }

    fn end(mut self) {
        for c in 0..CHECKPOINTS {
            for m in 0..MEMBERS {
                self.accept(c, m);
            }
            self.commit(c);
            self.check();
        }
        let kept: Vec<_> = self.committed.drain(..).map(|(checkpoint, content)| (checkpoint.id(), content)).collect();
        self.attempts.clear();
        for member in self.members.drain(..) {
            assert!(self.store.dismiss(member.membership()).unwrap().failures.is_empty());
        }
        self.store.close().unwrap();
        let store = self.options.clone().open(ROOT).unwrap();
        assert!(store.open_report().removed.is_empty(), "{:?}", store.open_report().removed);
        for (id, content) in kept {
            let read = read_states(&store.checkpoint(id).unwrap()).unwrap();
            let found: BTreeSet<_> = read.iter().map(|(name, _)| name).collect();
            assert_eq!(found, content.keys().collect());
            assert!(read.iter().all(|(name, read)| *read == bytes(content[name], len_of(content[name]))));
        }
        let files = names(&self.disk, "shared").len() + names(&self.disk, "exclusive").len();
        assert_eq!(files as u64, store.usage().physical_files);
    }
}

fn number(part: &Part) -> u64 {
    serde_json::to_value(part).unwrap()["number"].as_u64().unwrap()
}

fn part_names(part: &Part) -> Vec<String> {
    let value = serde_json::to_value(part).unwrap();
    value["changes"]["states"].as_object().unwrap().keys().cloned().collect()
}

fn seed_of(name: &str) -> u64 {
    name.rsplit('-').next().unwrap().parse().unwrap()
}

proptest! {
    #![proptest_config(Config { cases: std::env::var("PITON_CASES").ok().map_or(400, |cases| cases.parse().unwrap()), ..Config::default() })]

    #[test]
    fn any_order_of_prepare_accept_abort_commit_and_dismissal_keeps_what_was_accepted(
        steps in prop::collection::vec((any::<u8>(), any::<u8>()), 1..60),
        segment_size in prop_oneof![Just(4_000_u64), Just(12_000), Just(100_000)],
    ) {
        let mut world = World::new(segment_size);
        for (what, which) in steps {
            world.step(what, which);
        }
        world.end();
    }
}

/// The steps of one checkpoint of one member: prepared, accepted or lost, committed or aborted.
#[test]
fn every_interleaving_of_two_members_in_two_checkpoints_keeps_what_was_accepted() {
    // Each letter is a member's share of a checkpoint, or a checkpoint; it takes its steps in order.
    let tracks: [&[(u8, u8)]; 6] = [
        &[(0, 0), (3, 0), (5, 0)],
        &[(0, 1), (3, 1), (5, 1)],
        &[(0, 3), (3, 3), (5, 3)],
        &[(7, 0)],
        &[(7, 1)],
        &[(11, 0)],
    ];
    let mut orders = 0_u64;
    interleave(&tracks, &mut [0; 6], &mut Vec::new(), &mut |order| {
        orders += 1;
        // One in many: each takes a fraction of a millisecond, and there are a million.
        if orders.is_multiple_of(331) {
            let mut world = World::new(12_000);
            for (what, which) in order {
                world.step(*what, *which);
            }
            world.end();
        }
    });
    assert!(orders > 500_000, "{orders}");
}

fn interleave(tracks: &[&[(u8, u8)]], at: &mut [usize], order: &mut Vec<(u8, u8)>, run: &mut impl FnMut(&[(u8, u8)])) {
    if order.len() == tracks.iter().map(|track| track.len()).sum::<usize>() {
        return run(order);
    }
    for n in 0..tracks.len() {
        if let Some(step) = tracks[n].get(at[n]) {
            at[n] += 1;
            order.push(*step);
            interleave(tracks, at, order, run);
            at[n] -= 1;
            order.pop();
        }
    }
}
