//! Several processes, and one store. What is fenced off: two that write, a reader under whom data is removed, a writer that
//! comes back from the dead.
//!
//! The other processes are this test binary again, with a part to play.

mod members;
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

use piton::{Checkpoint, CheckpointId, Options, Store, Validation, contract::CheckpointStore};

use crate::support::{bytes, commit_states, log, read_states};

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
        self.hear_or_end().unwrap_or_else(|| panic!("it ended without a word"))
    }

    /// The same; `None` if it ended.
    fn hear_or_end(&mut self) -> Option<String> {
        let lines = self.output.by_ref().map(|line| line.unwrap());
        let said = lines.filter_map(|line| line.split_once('@').map(|(_, said)| said.to_owned()));
        said.take(1).next()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("sh").args(["-c", "kill -$0 $1", signal, &pid]).status().unwrap().success());
    }

    fn wait_until_stopped(&self) {
        let stopped = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
            let state = stat.rsplit_once(')').unwrap().1.trim_start();
            assert!(!state.starts_with('Z'), "it ended and was never stopped");
            state.starts_with('T')
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
        let names = names(dir.path());
        let with = |end: &str| names.iter().filter(|name| name.extension().is_some_and(|found| found == end)).count();
        let (data, logs, bases) = (with("seg"), with("log"), with("base") + with("copy"));
        // Five processes a round open the store. What they leave is summed up now and then.
        assert!(data == 1 && logs <= 16 && bases <= 2, "round {round}: {names:?}");
        assert_eq!(names.len() - data - logs - bases, 3, "identity, lock, and what readers lock: {names:?}");
    }
    processes.into_iter().for_each(Process::end);
}

#[test]
fn readers_in_other_processes_keep_what_they_read_while_the_writer_prunes() {
    ["unsynced", "synced"].into_iter().for_each(read_while_it_prunes);
}

#[expect(clippy::print_stdout, reason = "how much was read is worth knowing")]
fn read_while_it_prunes(synced: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Process::start("writer", dir.path(), synced);
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
    let [logs, bases] = [("log", 4), ("base", 1)].map(|(end, least)| {
        let last =
            names(dir.path()).into_iter().filter(|name| name.extension().is_some_and(|found| found == end)).max();
        let last = last.unwrap_or_else(|| panic!("no {end}"));
        let number: u64 = last.file_stem().unwrap().to_str().unwrap().split('-').nth(1).unwrap().parse().unwrap();
        assert!(number > least, "{}", last.display());
        number
    });
    println!("{synced}: readers saw {seen:?} checkpoints, there were {logs} logs and {bases} bases");

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

/// A store with two checkpoints, and a process that has the first one open.
fn with_a_reader(dir: &Path) -> (Store, Process) {
    let store = Store::open(dir).unwrap();
    commit_states(&store, &[bytes(1, 5000)]).unwrap();
    let mut reader = Process::start("holder", dir, "1");
    assert_eq!(reader.hear(), "open");
    commit_states(&store, &[bytes(2, 5000)]).unwrap();
    (store, reader)
}

#[test]
fn checkpoint_that_another_process_reads_is_neither_pruned_nor_forgotten_until_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut reader) = with_a_reader(dir.path());
    let report = store.prune(1).unwrap();
    assert_eq!((&report.in_use[..], report.checkpoints.len(), report.failures.len()), (&[id(1)][..], 0, 0));
    assert!(store.forget(id(1)).unwrap_err().is_in_use());
    // What may change of a checkpoint may change meanwhile.
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
}

#[test]
fn reader_that_is_killed_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut reader) = with_a_reader(dir.path());
    let before = names(dir.path());
    assert!(store.forget(id(1)).unwrap_err().is_in_use());
    reader.signal("KILL");
    reader.child.wait().unwrap();
    assert_eq!(names(dir.path()), before);
    assert_eq!(store.forget(id(1)).unwrap().checkpoints, [id(1)]);
}

/// A writer that is stopped at a call while it commits checkpoint 2, and a store that another process has taken over
/// meanwhile.
fn stalled(at: &str, dir: &Path, meanwhile: impl FnOnce(&Store)) -> (String, Store) {
    let mut process = Process::start("stalled", dir, at);
    process.wait_until_stopped();
    assert!(Store::open(dir).unwrap_err().is_locked(), "a stopped process holds its lock");
    std::fs::remove_file(dir.join("piton.lock")).unwrap();
    // An opener removes temporary files. The worst moment to be stopped at is between its list of the names and that, so
    // the temporary log is put back.
    let temps = || names(&dir.join("manifests")).into_iter().filter(|name| name.extension().is_none());
    let saved: Vec<_> = temps().map(|temp| (dir.join("saved"), temp)).collect();
    assert_eq!(saved.len(), usize::from(at == "name log"));
    for (saved, temp) in &saved {
        std::fs::hard_link(temp, saved).unwrap();
    }
    let store = Store::open(dir).unwrap();
    assert_eq!(temps().count(), 0);
    for (saved, temp) in saved {
        std::fs::rename(saved, temp).unwrap();
    }
    assert_eq!(store.generation(), if at == "name log" { 3 } else { 2 });
    meanwhile(&store);
    process.signal("CONT");
    let said = process.hear();
    process.end();
    (said, store)
}

/// Nothing is damaged, lost, or there only once.
fn is_sound(store: &Store) {
    let report = store.open_report();
    assert!(report.lost.is_empty() && report.healed.is_empty() && report.failures.is_empty(), "{report}");
    assert!(store.damaged().is_empty() && report.cleanup_skipped.is_none(), "{report}");
}

#[test]
fn writer_that_is_stopped_before_its_last_look_finds_out_that_it_lost_the_store() {
    for at in ["sync data", "name log"] {
        let dir = tempfile::tempdir().unwrap();
        let (said, store) = stalled(at, dir.path(), |store| assert_eq!(store.checkpoint_ids(), [id(1)], "{at}"));
        assert_eq!((said.as_str(), store.latest().unwrap().unwrap().id()), ("fenced", id(1)), "{at}");
        assert_eq!(records_of(dir.path(), 2), 0, "{at}");
        let third = commit_states(&store, &[bytes(3, 5000)]).unwrap().id();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.checkpoint_ids(), [id(1), third], "{at}");
        is_sound(&store);
        assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(3, 5000), "{at}");
    }
}

/// How many records publish a checkpoint of this id, whether or not they count.
fn records_of(root: &Path, id: u64) -> usize {
    let logs = log::logs_in(root).into_iter().map(|path| std::fs::read(path).unwrap());
    logs.flat_map(|log| log::records(&log)).filter(|found| found.publishes() == Some(id)).count()
}

/// Where a writer is stopped behind its last look, and has written nothing that its successor could read.
const BEHIND_ITS_LAST_LOOK: &str = "first half";

#[test]
fn record_of_a_writer_that_is_stopped_behind_its_last_look_counts_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (said, store) = stalled(BEHIND_ITS_LAST_LOOK, dir.path(), |store| assert_eq!(store.checkpoint_ids(), [id(1)]));
    assert_eq!(said, "indeterminate");
    assert_eq!(records_of(dir.path(), 2), 1, "nothing could keep it from that");
    assert_eq!(store.latest().unwrap().unwrap().id(), id(1));
    let reader = Options::new().open_read_only(dir.path()).unwrap();
    assert_eq!(reader.latest().unwrap().unwrap().id(), id(1));
    assert!(reader.checkpoint(id(2)).unwrap_err().is_not_found());
    drop(store);
    // Nor for any later opener.
    for _ in 0..3 {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!((store.checkpoint_ids(), store.latest().unwrap().unwrap().id()), (vec![id(1)], id(1)));
        is_sound(&store);
        assert!(!store.validate(id(2), Validation::Full).unwrap().is_valid());
        assert_eq!(reader.latest().unwrap().unwrap().id(), id(1));
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(commit_states(&store, &[bytes(3, 5000)]).unwrap().id(), id(2));
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    is_sound(&store);
    assert_eq!(read_states(&store.latest().unwrap().unwrap()).unwrap()[0].1, bytes(3, 5000));
    assert_eq!(store.checkpoint_ids(), [id(1), id(2)]);
}

#[test]
fn successor_may_commit_under_the_id_that_a_stalled_writer_is_about_to_commit() {
    for before in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let commit = |store: &Store| drop(commit_states(store, &[bytes(9, 5000)]).unwrap());
        let meanwhile = |store: &Store| {
            if before {
                commit(store);
            }
        };
        let (said, store) = stalled(BEHIND_ITS_LAST_LOOK, dir.path(), meanwhile);
        assert_eq!(said, "indeterminate");
        if !before {
            commit(&store);
        }
        let is_the_successors = |latest: Checkpoint| {
            assert_eq!((latest.id(), latest.manifest().generation()), (id(2), 2));
            assert_eq!(read_states(&latest).unwrap()[0].1, bytes(9, 5000));
        };
        is_the_successors(store.latest().unwrap().unwrap());
        is_the_successors(Options::new().open_read_only(dir.path()).unwrap().latest().unwrap().unwrap());
        drop(store);
        for _ in 0..3 {
            let store = Store::open(dir.path()).unwrap();
            is_sound(&store);
            is_the_successors(store.latest().unwrap().unwrap());
        }
    }
}

#[test]
fn record_that_a_stalled_writer_has_not_finished_counts_if_its_successor_has_read_it() {
    for at in ["second half", "sync log"] {
        let dir = tempfile::tempdir().unwrap();
        let is_there = |store: &Store| {
            assert_eq!(store.checkpoint_ids(), [id(1), id(2)], "{at}");
            let latest = store.latest().unwrap().unwrap();
            assert_eq!((latest.id(), latest.manifest().generation()), (id(2), 1), "{at}");
            assert_eq!(read_states(&latest).unwrap()[0].1, bytes(2, 5000), "{at}");
        };
        let (said, store) = stalled(at, dir.path(), |store| {
            is_there(store);
            commit_states(store, &[bytes(3, 5000)]).unwrap();
            let _ = store.forget(id(3)).unwrap();
        });
        assert_eq!(said, "indeterminate", "{at}: the writer cannot know");
        is_there(&store);
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        is_sound(&store);
        is_there(&store);
        assert_eq!(commit_states(&store, &[bytes(4, 5000)]).unwrap().id(), id(4), "{at}");
    }
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
