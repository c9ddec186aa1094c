//! Several processes, and one store. What is fenced off: two that write, a reader under whom data is removed, a writer that
//! comes back from the dead.
//!
//! The other processes are this test binary again, with a part to play.

mod parts;
mod stopping;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Lines, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use piton::{CheckpointId, Manifest, Options, Store, Validation, contract::CheckpointStore};

use crate::support::{bytes, commit_states};

/// For how long readers and a writer go on; `PITON_SECONDS` for longer.
fn seconds() -> u64 {
    std::env::var("PITON_SECONDS").ok().map_or(3, |seconds| seconds.parse().unwrap())
}

/// A process that plays a part.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(part: &str, dir: &Path, argument: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["process::parts::part_of_another_process", "--exact", "--ignored", "--nocapture"])
            .envs([("PITON_PART", part.to_owned()), ("PITON_ARGUMENT", argument.to_owned())])
            .env("PITON_DIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        Self { child, input, output }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// The next line that is not the test harness's.
    fn hear(&mut self) -> String {
        let lines = self.output.by_ref().map(|line| line.unwrap());
        let said = lines.filter_map(|line| line.split_once('@').map(|(_, said)| said.to_owned()));
        said.take(1).next().unwrap_or_else(|| panic!("it ended without a word"))
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("sh").args(["-c", "kill -$0 $1", signal, &pid]).status().unwrap().success());
    }

    fn wait_until_stopped(&self) {
        let stopped = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
            stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T')
        };
        while !stopped() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(mut self) {
        drop(self.input);
        assert!(self.child.wait().unwrap().success());
    }
}

fn id(number: u64) -> CheckpointId {
    CheckpointId::new(number).unwrap()
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn of_four_processes_that_save_one_id_exactly_one_content_wins_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut processes: Vec<_> = (0..4_u64).map(|n| Process::start("saver", dir.path(), &n.to_string())).collect();
    for round in 1..=500_u64 {
        let same = round % 2 == 0;
        let content = |n: u64| if same { 0 } else { n };
        processes.iter_mut().zip(0..).for_each(|(process, n)| process.tell(&format!("{round} {}", content(n))));
        let said: Vec<_> = processes.iter_mut().map(Process::hear).collect();
        let store = parts::open_unsynced(dir.path()).unwrap();
        let winner = store.load_by_id(id(round)).unwrap().unwrap().epoch() - 1;
        for (n, said) in (0..4).zip(&said) {
            let expected = if content(n) == winner { "saved" } else { "conflict" };
            assert_eq!(said, expected, "round {round}: {winner} won");
        }
        assert_eq!(store.load_state_data(id(round)).unwrap().unwrap(), bytes(winner, 2000));
        assert!(store.validate(id(round), Validation::Full).unwrap().is_valid());
        let _ = store.prune(1).unwrap();
        store.close().unwrap();
        assert_eq!(
            names(dir.path()).len(),
            5,
            "identity, lock, what readers lock, manifest, data: {:?}",
            names(dir.path())
        );
    }
    processes.into_iter().for_each(Process::end);
}

#[test]
fn readers_in_other_processes_keep_what_they_read_while_the_writer_prunes() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Process::start("writer", dir.path(), "");
    assert_eq!(writer.hear(), "open");
    let mut readers: Vec<_> =
        (0..3).map(|n| Process::start("reader", dir.path(), &(seconds() * 1000 + n).to_string())).collect();
    let end = Instant::now() + Duration::from_secs(seconds());
    while Instant::now() < end {
        let start = Instant::now();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(error.is_locked() && error.holder_pid() == Some(writer.pid()), "{error}");
        assert!(error.to_string().contains(&format!("process {}", writer.pid())), "{error}");
        assert!(start.elapsed() < Duration::from_secs(1), "at once");
        thread::sleep(Duration::from_millis(20));
    }
    let seen: Vec<u64> = readers.iter_mut().map(|reader| reader.hear().parse().unwrap()).collect();
    readers.into_iter().for_each(Process::end);
    assert!(seen.iter().all(|seen| *seen > 5), "{seen:?} checkpoints were seen");

    writer.signal("KILL");
    writer.child.wait().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let latest = store.latest().unwrap().unwrap();
    parts::check(&latest);
    assert!(store.damaged().is_empty());
    drop(latest);
    assert!(store.prune(1).unwrap().in_use.is_empty(), "all readers are gone");
    let segments: BTreeSet<_> =
        names(dir.path()).into_iter().filter(|name| name.extension().unwrap() == "seg").collect();
    assert_eq!(segments.len() as u64, store.usage().physical_files, "{segments:?}");
}

#[test]
fn checkpoint_that_another_process_reads_is_neither_pruned_nor_forgotten_until_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let mut reader = Process::start("holder", dir.path(), "1");
    assert_eq!(reader.hear(), "open");
    commit_states(&store, &[bytes(2, 5000)]).unwrap();
    let report = store.prune(1).unwrap();
    assert_eq!((&report.in_use[..], report.checkpoints.len(), report.failures.len()), (&[id(1)][..], 0, 0));
    assert!(store.forget(id(1)).unwrap_err().is_in_use());
    // It holds a file, not a name: what may change of a checkpoint is not in it.
    store
        .update_manifest(&store.checkpoint(id(1)).unwrap().manifest().clone().with_metadata("k", Some(vec![1])))
        .unwrap();
    store.pin(id(1)).unwrap();
    store.unpin(id(1)).unwrap();
    assert!(store.forget(id(1)).unwrap_err().is_in_use());
    // Nor by the next process that writes.
    store.close().unwrap();
    let store = Options::new().retain(1).open(dir.path()).unwrap();
    commit_states(&store, &[bytes(3, 5000)]).unwrap();
    assert_eq!(store.last_retention().in_use, [id(1)]);
    reader.tell("done");
    assert_eq!(reader.hear(), "whole");
    reader.end();
    assert_eq!(store.prune(1).unwrap().checkpoints, [id(1)]);
    assert_eq!(names(dir.path()).iter().filter(|name| name.extension().unwrap() == "update").count(), 0);
}

/// A writer that is stopped at a call, and a store that somebody else has taken over meanwhile.
fn stalled(at: &str, dir: &Path, meanwhile: impl FnOnce(&Store)) -> (String, Store) {
    let mut process = Process::start("stalled", dir, at);
    process.wait_until_stopped();
    assert!(Store::open(dir).unwrap_err().is_locked(), "a stopped process holds its lock");
    std::fs::remove_file(dir.join("piton.lock")).unwrap();
    // Whoever opens the store removes temporary files. The worst moment to be stopped at is between its look for manifests
    // and that, so the temporary manifest is put back.
    let temps = || names(&dir.join("manifests")).into_iter().filter(|name| name.extension().is_none());
    let saved: Vec<_> = temps().map(|temp| (dir.join("saved"), temp)).collect();
    for (saved, temp) in &saved {
        std::fs::hard_link(temp, saved).unwrap();
    }
    let store = Store::open(dir).unwrap();
    assert_eq!(temps().count(), 0);
    for (saved, temp) in saved {
        std::fs::rename(saved, temp).unwrap();
    }
    assert_eq!((store.generation(), store.checkpoint_ids()), (2, vec![id(1)]));
    meanwhile(&store);
    process.signal("CONT");
    let said = process.hear();
    process.end();
    (said, store)
}

#[test]
fn writer_that_is_stopped_before_its_last_look_finds_out_that_it_lost_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (said, store) = stalled("create", dir.path(), |_| ());
    assert_eq!((said.as_str(), store.latest().unwrap().unwrap().id()), ("fenced", id(1)));
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.checkpoint_ids(), [id(1)]);
    assert!(store.damaged().is_empty());
}

#[test]
fn checkpoint_of_a_writer_that_is_stopped_behind_its_last_look_is_never_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let (said, store) = stalled("publish", dir.path(), |_| ());
    assert_eq!(said, "indeterminate");
    assert!(dir.path().join("manifests/00000000000000000002.manifest").exists(), "nobody could keep it from that");
    assert_eq!(store.latest().unwrap().unwrap().id(), id(1));
    let reader = Options::new().open_read_only(dir.path()).unwrap();
    assert_eq!(reader.latest().unwrap().unwrap().id(), id(1));
    assert!(reader.checkpoint(id(2)).unwrap_err().is_corrupt());
    drop(store);
    // Not for the next one either, nor when there are newer ones, and pruning removes it.
    let store = Store::open(dir.path()).unwrap();
    let damaged = store.damaged();
    assert_eq!((damaged.len(), damaged[0].0, store.latest().unwrap().unwrap().id()), (1, id(2), id(1)));
    assert!(damaged[0].1.is_corrupt() && damaged[0].1.to_string().contains("generation 1"), "{}", damaged[0].1);
    assert!(!store.validate(id(2), Validation::Full).unwrap().is_valid());
    assert_eq!(store.recover_latest_validated().unwrap().chosen, Some(id(1)));
    drop(store);
    for generation in 4..7 {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(
            (store.generation(), store.damaged().len(), store.latest().unwrap().unwrap().id()),
            (generation, 1, id(1))
        );
        assert_eq!(reader.latest().unwrap().unwrap().id(), id(1));
    }
    let store = Store::open(dir.path()).unwrap();
    commit_states(&store, &[bytes(3, 5000)]).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.damaged().len(), store.latest().unwrap().unwrap().id()), (1, id(3)));
    assert_eq!(store.prune(2).unwrap().checkpoints, [id(2)]);
    assert_eq!(store.checkpoint_ids(), [id(1), id(3)]);
}

#[test]
fn writer_that_took_over_meets_the_stale_checkpoint_as_a_conflict_and_goes_on_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let (said, store) = stalled("publish", dir.path(), |_| ());
    assert_eq!(said, "indeterminate");
    assert!(store.begin(id(2)).unwrap().commit(Manifest::builder()).unwrap_err().is_conflict());
    assert_eq!((store.checkpoint_ids(), store.latest().unwrap().unwrap().id()), (vec![id(1), id(2)], id(1)));
    commit_states(&store, &[bytes(3, 5000)]).unwrap();
    drop(store);
    for _ in 0..3 {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.latest().unwrap().unwrap().id(), id(3));
        assert_eq!((store.damaged().len(), store.damaged()[0].0), (1, id(2)));
    }
}

#[test]
fn writer_that_was_overtaken_by_a_checkpoint_of_its_own_id_gets_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let (said, store) = stalled("publish", dir.path(), |store| drop(commit_states(store, &[bytes(9, 5000)]).unwrap()));
    assert_eq!(said, "conflict");
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let latest = store.latest().unwrap().unwrap();
    assert_eq!((latest.id(), latest.manifest().generation()), (id(2), 2));
    assert!(store.damaged().is_empty());
}

#[test]
#[expect(unsafe_code, reason = "what a child does before it becomes another program can be said in no safe way")]
fn lock_is_given_back_at_once_also_while_this_process_is_forking() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let reader = Options::new().open_read_only(dir.path()).unwrap().checkpoint(id(1)).unwrap();
    let mut command = Command::new("true");
    // SAFETY: to sleep is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| {
            thread::sleep(Duration::from_millis(1500));
            Ok(())
        });
    }
    let child = thread::spawn(move || command.status().unwrap());
    // By then the child has a copy of every descriptor.
    thread::sleep(Duration::from_millis(200));
    drop((store, reader));
    let store = Store::open(dir.path()).unwrap();
    let _ = store.forget(id(1)).unwrap();
    assert!(!child.is_finished(), "the machine is too slow for this test to mean anything");
    assert!(child.join().unwrap().success());
}
