//! A coordinator and four members in processes of their own, which are killed and stopped at random; the test is the channel
//! between them.

use std::{collections::BTreeMap, io::Write as _, path::Path, thread, time::Duration};

use piton::{
    Checkpoint, CheckpointId, Manifest, ManifestChanges, Member, Membership, Options, Part, Scope, Store, Worn,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Process, id,
    parts::{hear, say},
};
use crate::support::bytes;

const MEMBERS: usize = 4;
const LENS: [usize; 4] = [700, 3000, 40, 70_000];

fn options() -> Options {
    Options::new().segment_size(200_000).log_size(128 << 10).retain(3)
}

fn to_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

fn from_text<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

/// Does what it is told with the store that it opens.
pub(super) fn coordinator(dir: &Path) {
    let store = options().wait_for_lock(Duration::from_secs(20)).open(dir).unwrap();
    let mut newest = store.latest().unwrap();
    say(newest.as_ref().map_or(0, |newest| newest.id().get()));
    let mut pending = None;
    while let Some(line) = hear() {
        let (what, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let told = match what {
            "admit" => store.admit().map(|membership| to_text(&membership)),
            "dismiss" => store.dismiss(&from_text(argument)).map(|orphans| {
                assert!(orphans.failures.is_empty(), "{orphans:?}");
                "dismissed".to_owned()
            }),
            "begin" => store.begin_next().map(|begun| {
                let since = newest.as_ref().map(Checkpoint::id);
                let told = format!("{} {} {}", begun.id(), to_text(&since), to_text(&store.worn()));
                pending = Some(begun);
                told
            }),
            "accept" => {
                let accepted = pending.as_ref().unwrap().accept(&from_text::<Part>(argument));
                Ok(match accepted {
                    Err(error) if error.part_fault().is_some() => "refused".to_owned(),
                    accepted => accepted.map_or_else(|error| error.to_string(), |()| "accepted".to_owned()),
                })
            }
            "commit" => {
                let manifest = newest.as_ref().map_or_else(Manifest::builder, |at| Manifest::based_on(at.manifest()));
                pending.take().unwrap().commit(manifest).map_err(piton::Error::from).map(|checkpoint| {
                    newest = Some(checkpoint);
                    "committed".to_owned()
                })
            }
            _ => {
                drop(pending.take());
                Ok("aborted".to_owned())
            }
        };
        match told {
            Ok(told) => say(told),
            Err(error) if error.is_fenced() => say("fenced"),
            Err(error) => say(error),
        }
    }
}

/// Writes what it is told to, as the member that it was told to be last.
pub(super) fn member(dir: &Path, slot: u64) {
    let mut member: Option<Member> = None;
    say("there");
    while let Some(line) = hear() {
        let (what, argument) = line.split_once(' ').unwrap();
        if what == "join" {
            drop(member.take());
            member = Some(Options::new().join(dir, &from_text::<Membership>(argument)).unwrap());
            say("joined");
            continue;
        }
        let mut arguments = argument.splitn(3, ' ');
        let mut next = || arguments.next().unwrap();
        let (checkpoint, since, worn) = (id(next().parse().unwrap()), from_text(next()), from_text::<Worn>(next()));
        match part(member.as_ref().unwrap(), slot, checkpoint, since, &worn) {
            Ok(part) => say(to_text(&part)),
            Err(error) if error.is_fenced() => say("fenced"),
            Err(error) => say(error),
        }
    }
}

/// The states that a slot writes for a checkpoint.
fn written(slot: u64, checkpoint: CheckpointId) -> impl Iterator<Item = (String, u64, usize)> {
    let id = checkpoint.get();
    (0..3).map(move |n| {
        let k = (id + n) % 7;
        (format!("{slot}-{k}"), id * 100 + slot * 10 + n, LENS[usize::try_from((id + slot + n) % 4).unwrap()])
    })
}

fn part(
    member: &Member,
    slot: u64,
    checkpoint: CheckpointId,
    since: Option<CheckpointId>,
    worn: &Worn,
) -> piton::Result<Part> {
    member.shed(worn);
    let pending = member.begin(checkpoint, since)?;
    let mut changes = ManifestChanges::new();
    for (name, seed, len) in written(slot, checkpoint) {
        let mut writer = pending.writer(if slot.is_multiple_of(2) { Scope::Shared } else { Scope::Exclusive })?;
        writer.write_all(&bytes(seed, len)).map_err(piton::Error::from_writer)?;
        changes = changes.state(name, writer.finish()?);
    }
    pending.prepare(changes)
}

/// What a checkpoint has, by name: seed and length.
type Content = BTreeMap<String, (u64, usize)>;

/// The engine: who is there, and what it was promised.
struct Engine<'a> {
    dir: &'a Path,
    coordinator: Process,
    members: Vec<(Process, Membership)>,
    /// Processes that were given up while they were stopped.
    stalled: Vec<Process>,
    contents: BTreeMap<CheckpointId, Content>,
    /// The checkpoint that was last known to be committed, and the one that may be.
    newest: u64,
    random: u64,
    events: BTreeMap<&'static str, u64>,
}

impl<'a> Engine<'a> {
    fn new(dir: &'a Path) -> Self {
        let mut coordinator = Process::start("coordinator", dir, "");
        assert_eq!(coordinator.hear(), "0");
        let (contents, events) = ([(id(1), Content::new())].into(), BTreeMap::new());
        let (members, stalled) = (Vec::new(), Vec::new());
        let mut engine = Self { dir, coordinator, members, stalled, contents, newest: 0, random: 1, events };
        for slot in 0..MEMBERS {
            let member = engine.join(slot);
            engine.members.push(member);
        }
        engine
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33).is_multiple_of(one_in)
    }

    fn note(&mut self, event: &'static str) {
        *self.events.entry(event).or_default() += 1;
    }

    fn ask(&mut self, line: &str) -> String {
        self.coordinator.tell(line);
        self.coordinator.hear()
    }

    fn join(&mut self, slot: usize) -> (Process, Membership) {
        let mut process = Process::start("member", self.dir, &slot.to_string());
        assert_eq!(process.hear(), "there");
        let membership = self.admit(&mut process);
        (process, membership)
    }

    fn admit(&mut self, process: &mut Process) -> Membership {
        let membership = self.ask("admit");
        process.tell(&format!("join {membership}"));
        assert_eq!(process.hear(), "joined");
        from_text(&membership)
    }

    /// Another process takes the place of a member that was killed or does not answer.
    fn replace(&mut self, slot: usize, is_stalled: bool) {
        let told = self.ask(&format!("dismiss {}", to_text(&self.members[slot].1)));
        assert_eq!(told, "dismissed");
        let next = self.join(slot);
        let (gone, _) = std::mem::replace(&mut self.members[slot], next);
        if is_stalled { self.stalled.push(gone) } else { gone.kill() }
    }

    /// A checkpoint, and whatever goes wrong meanwhile.
    fn round(&mut self) {
        let begun = self.ask("begin");
        let checkpoint = id(begun.split(' ').next().unwrap().parse().unwrap());
        let order = format!("part {begun}");
        let stops = self.chance(12).then(|| usize::try_from(self.random >> 40).unwrap() % MEMBERS);
        let kills = self.chance(9).then(|| usize::try_from(self.random >> 40).unwrap() % MEMBERS);
        // One that is stopped until it is killed hands nothing over, however fast the machine is.
        let dies_first = kills.filter(|_| self.chance(2));
        for (slot, (process, _)) in self.members.iter_mut().enumerate() {
            if stops == Some(slot) || dies_first == Some(slot) {
                process.signal("STOP");
            }
            process.tell(&order);
        }
        if let Some(slot) = kills.filter(|slot| stops != Some(*slot)) {
            thread::sleep(Duration::from_micros(self.random >> 52));
            self.members[slot].0.signal("KILL");
        }
        let mut failed = None;
        for slot in 0..MEMBERS {
            if stops == Some(slot) {
                failed = Some((slot, true));
                continue;
            }
            match self.members[slot].0.hear_or_end() {
                Some(part) => assert_eq!(self.ask(&format!("accept {part}")), "accepted", "{part}"),
                None => failed = failed.or(Some((slot, false))),
            }
        }
        if let Some((slot, is_stalled)) = failed {
            self.note(if is_stalled { "stalled" } else { "killed" });
            assert_eq!(self.ask("abort"), "aborted");
            self.replace(slot, is_stalled);
            // Another one may have been killed in the same round.
            for other in (0..MEMBERS).filter(|other| *other != slot) {
                if kills == Some(other) && is_stalled {
                    self.replace(other, false);
                }
            }
            return self.wake_a_stalled_one();
        }
        // One that was killed after it had handed its part over: the part stays.
        if let Some(slot) = kills.filter(|slot| stops != Some(*slot)) {
            self.note("killed late");
            self.replace(slot, false);
        }
        let mut content = self.contents.get(&id(self.newest.max(1))).cloned().unwrap();
        for slot in 0..MEMBERS as u64 {
            content.extend(written(slot, checkpoint).map(|(name, seed, len)| (name, (seed, len))));
        }
        self.contents.insert(checkpoint, content);
        if self.chance(25) {
            return self.lose_coordinator(checkpoint);
        }
        assert_eq!(self.ask("commit"), "committed");
        self.note("committed");
        self.newest = checkpoint.get();
        if checkpoint.get().is_multiple_of(10) {
            check(&Options::new().open_read_only(self.dir).unwrap().latest().unwrap().unwrap(), &self.contents);
        }
    }

    /// What was stopped long ago goes on: its part is refused, or it finds out that it is a member no more.
    fn wake_a_stalled_one(&mut self) {
        if self.chance(2) {
            return;
        }
        let Some(mut process) = self.stalled.pop() else { return };
        process.signal("CONT");
        let said = process.hear();
        if said == "fenced" {
            self.note("fenced");
        } else {
            self.ask("begin");
            assert_eq!(self.ask(&format!("accept {said}")), "refused");
            assert_eq!(self.ask("abort"), "aborted");
            self.note("refused");
        }
        process.kill();
    }

    /// The coordinator is killed in the middle of a commit, or it is stopped, and another one takes over.
    fn lose_coordinator(&mut self, checkpoint: CheckpointId) {
        let stops = self.chance(3);
        self.coordinator.signal(if stops { "STOP" } else { "CONT" });
        self.coordinator.tell("commit");
        if stops {
            std::fs::remove_file(self.dir.join("piton.lock")).unwrap();
        } else {
            thread::sleep(Duration::from_micros(self.random >> 51));
            self.coordinator.signal("KILL");
        }
        let mut gone = std::mem::replace(&mut self.coordinator, Process::start("coordinator", self.dir, ""));
        let newest: u64 = self.coordinator.hear().parse().unwrap();
        if stops {
            gone.signal("CONT");
            assert_eq!(gone.hear(), "fenced");
            assert_eq!(newest, self.newest, "it was stopped before it could commit");
        }
        gone.kill();
        self.note(if stops { "coordinator stalled" } else { "coordinator killed" });
        assert!([self.newest, checkpoint.get()].contains(&newest), "{newest} is there, not {}", self.newest);
        self.newest = newest;
        // All of another generation: each finds out, and joins again.
        for slot in 0..MEMBERS {
            let membership = self.ask("admit");
            let (process, old) = &mut self.members[slot];
            process.tell(&format!("join {membership}"));
            assert_eq!(process.hear(), "joined");
            *old = from_text(&membership);
        }
    }

    fn end(self) {
        self.stalled.into_iter().for_each(Process::kill);
        self.members.into_iter().for_each(|(process, _)| process.end());
        self.coordinator.end();
    }
}

fn check(checkpoint: &Checkpoint, contents: &BTreeMap<CheckpointId, Content>) {
    let content = &contents[&checkpoint.id()];
    let names: Vec<_> = checkpoint.manifest().states().map(|(name, _)| name).collect();
    assert_eq!(names, content.keys().collect::<Vec<_>>(), "{}", checkpoint.id());
    for (name, (seed, len)) in content {
        assert!(*checkpoint.get(name).unwrap() == *bytes(*seed, *len), "{name} of {}", checkpoint.id());
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "what happened is worth knowing")]
fn members_and_coordinators_that_are_killed_and_stopped_lose_nothing_and_leave_nothing() {
    let rounds = std::env::var("PITON_CHECKPOINTS").ok().map_or(120, |rounds| rounds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::new(dir.path());
    while engine.events.get("committed").is_none_or(|committed| *committed < rounds) {
        engine.round();
    }
    let (contents, events, newest) = (engine.contents.clone(), engine.events.clone(), engine.newest);
    engine.end();
    println!("{events:?}");
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.latest().unwrap().unwrap().id().get(), newest);
    for id in store.checkpoint_ids() {
        check(&store.checkpoint(id).unwrap(), &contents);
    }
    let files = |scope| std::fs::read_dir(dir.path().join(scope)).unwrap().count() as u64;
    assert_eq!(files("shared") + files("exclusive"), store.usage().physical_files);
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_string_lossy().contains("member")));
    for event in ["killed", "stalled", "coordinator killed"] {
        assert!(events.contains_key(event), "{event} never happened: {events:?}");
    }
}
