//! The inspector: every command against stores with every kind of trouble, compared with what it said before.
//!
//! `PITON_GOLDEN=write cargo test --all-features --test cli` writes the texts anew. Read the difference before you commit it.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod stores;

use std::{
    fmt::Write as _,
    fs,
    io::{self, BufRead as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// The commands that only read.
const READING: [&[&str]; 13] = [
    &["list"],
    &["show", "latest"],
    &["show", "2", "--states", "@"],
    &["cat", "latest", "counts"],
    &["cat", "latest", "nothing"],
    &["verify"],
    &["verify", "--all"],
    &["du", "--unique"],
    &["diff", "1", "latest"],
    &["log"],
    &["doctor"],
    &["prune", "--keep", "1", "--dry-run"],
    &["salvage", "SALVAGED"],
];

/// Runs a command beside a store.
fn piton(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_piton"));
    command.arg("--store").arg(root).args(arguments).env_remove("PITON_STORE").env("NO_COLOR", "1");
    command.current_dir(root.parent().unwrap()).output().unwrap()
}

/// What a command said, without what differs from run to run.
fn said(root: &Path, arguments: &[&str]) -> String {
    let output = piton(root, arguments);
    let len = output.stdout.len();
    let mut text = String::from_utf8(output.stdout).unwrap_or_else(|_| format!("({len} bytes)\n"));
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let text = text.replace(&root.parent().unwrap().display().to_string(), "");
    let lines = text
        .lines()
        .filter(|line| !["file system", "it lacks", "sync", "read in"].iter().any(|is| line.starts_with(is)));
    // Which process a member is.
    let text: Vec<_> = lines.map(|line| line.split(" on host").next().unwrap().trim_end()).collect();
    let text: Vec<_> = text.iter().map(|line| line.replace(&std::process::id().to_string(), "PID")).collect();
    let mut all = format!("$ piton {}\n", arguments.join(" "));
    writeln!(all, "{}", text.join("\n").trim_end()).unwrap();
    writeln!(all, "exit code {}\n", output.status.code().unwrap()).unwrap();
    all
}

fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden").join(format!("{name}.txt"));
    if std::env::var_os("PITON_GOLDEN").is_some_and(|what| what == "write") {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} says something else", path.display());
}

/// Every reading command against a store, in words and in JSON.
fn read_all(name: &str, root: &Path) {
    let mut all = String::new();
    for arguments in READING {
        all.push_str(&said(root, arguments));
        let _ = fs::remove_dir_all(root.with_file_name("SALVAGED"));
        if arguments[0] == "cat" {
            continue;
        }
        let mut with_json = vec!["--json"];
        with_json.extend(arguments);
        let output = piton(root, &with_json);
        let told = if output.status.code() == Some(3) { &output.stderr } else { &output.stdout };
        let value: Value = serde_json::from_slice(told)
            .unwrap_or_else(|error| panic!("{arguments:?} of {name}: {error}: {}", String::from_utf8_lossy(told)));
        assert!(value.is_object(), "{value}");
        let _ = fs::remove_dir_all(root.with_file_name("SALVAGED"));
    }
    let too_wide = all.lines().find(|line| line.chars().count() > 80 && line.contains("  "));
    assert!(too_wide.is_none(), "a table has 80 columns: {too_wide:?}");
    golden(name, &all);
}

macro_rules! stores {
    ($($name:ident: $make:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let root = dir.path().join("store");
                let _keep = $make(&root);
                read_all(stringify!($name), &root);
            }
        )*
    };
}

stores! {
    sound: stores::sound;
    empty: stores::empty;
    record_lost: stores::record_lost;
    record_once: stores::record_once;
    data_file_missing: stores::data_file_missing;
    data_file_short: stores::data_file_short;
    state_flipped: stores::state_flipped;
    identity_lost: stores::identity_lost;
    log_lost: stores::log_lost;
    leftovers: stores::leftovers;
    newer_format: stores::newer_format;
    half_an_export: stores::half_an_export;
    in_use: stores::in_use;
    no_store: stores::no_store;
}

#[test]
fn commands_that_change_a_store_do_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    stores::sound(&root);
    let other = dir.path().join("other");
    stores::sound(&other);
    let mut all = String::new();
    for arguments in [
        &["unpin", "1"][..],
        &["pin", "2"],
        &["rollback", "3"],
        &["forget", "4"],
        &["forget", "9"],
        &["export", "latest", "exported"],
        &["export", "latest", "exported"],
        &["import", "other"],
        &["import", "other", "--claim", "move"],
        &["list"],
        &["prune", "--keep", "1"],
        &["list"],
    ] {
        all.push_str(&said(&root, arguments));
    }
    golden("changes", &all);
    let left = String::from_utf8(piton(&other, &["list"]).stdout).unwrap();
    assert!(left.contains("\n 3 ") && !left.contains("\n 4 "), "the newest one was moved: {left}");
    let exported = piton(&dir.path().join("exported"), &["verify", "--all"]);
    assert!(exported.status.success(), "{exported:?}");
}

#[test]
fn store_that_an_engine_has_open_is_not_changed_and_the_error_names_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let _store = stores::in_use(&root);
    for arguments in [&["prune", "--keep", "1"][..], &["forget", "1"], &["pin", "1"], &["rollback", "1"]] {
        let output = piton(&root, arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&std::process::id().to_string()), "{said}");
    }
}

#[test]
fn state_comes_out_byte_for_byte_and_a_damaged_one_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    stores::sound(&root);
    let output = piton(&root, &["cat", "latest", "counts"]);
    assert_eq!(output.stdout, stores::bytes(4, 5000));
    let output = piton(&root, &["cat", "latest", "@window/1/delta/1"]);
    assert_eq!(output.stdout, stores::bytes(14, 2000));
    let root = dir.path().join("flipped");
    stores::state_flipped(&root);
    let output = piton(&root, &["cat", "latest", "counts"]);
    assert!(output.stdout.is_empty() && output.status.code() == Some(3), "{output:?}");
}

#[test]
fn every_whole_state_is_saved_without_logs_and_bases() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    stores::sound(&root);
    fs::remove_dir_all(root.join("manifests")).unwrap();
    let saved = dir.path().join("saved");
    let output = piton(&root, &["salvage", saved.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let index = fs::read_to_string(saved.join("index.jsonl")).unwrap();
    let saved: Vec<_> = index
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|entry| fs::read(saved.join(entry["file"].as_str().unwrap())).unwrap())
        .collect();
    for (seed, len) in stores::WRITTEN {
        assert!(saved.contains(&stores::bytes(seed, len)), "{seed} {len}");
    }
    assert_eq!(saved.len(), stores::WRITTEN.len());
}

#[test]
fn saved_states_say_what_checkpoints_call_them_while_there_is_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    stores::sound(&root);
    let saved = dir.path().join("saved");
    assert!(piton(&root, &["salvage", saved.to_str().unwrap()]).status.success());
    let index = fs::read_to_string(saved.join("index.jsonl")).unwrap();
    let named: Vec<_> = index
        .lines()
        .flat_map(|line| serde_json::from_str::<Value>(line).unwrap()["named"].as_array().unwrap().clone())
        .map(|named| (named["state"].as_str().unwrap().to_owned(), named["oldest"].clone(), named["newest"].clone()))
        .map(|(state, oldest, newest)| (state, oldest.as_u64().unwrap(), newest.as_u64().unwrap()))
        .collect();
    assert!(named.contains(&("model".to_owned(), 1, 4)), "{named:?}");
    for id in 1..=4 {
        assert!(named.contains(&("counts".to_owned(), id, id)), "{named:?}");
        assert!(named.contains(&("@window/1/delta/1".to_owned(), id, id)), "{named:?}");
    }
    assert_eq!(named.len(), 9, "{named:?}");
}

#[test]
fn bench_measures_three_sizes_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let beside = dir.path().join("store");
    for arguments in [&["bench", "--seconds", "0.1"][..], &["--json", "bench", "--seconds", "0.1", "--dir", "."]] {
        let output = piton(&beside, arguments);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{arguments:?} left something");
        let text = String::from_utf8(output.stdout).unwrap();
        if arguments[0] == "--json" {
            let value: Value = serde_json::from_str(&text).unwrap();
            let sizes = value["sizes"].as_array().unwrap();
            assert!(sizes.len() == 3 && sizes.iter().all(|size| size["checkpoints"].as_u64() >= Some(3)), "{value}");
            assert!(sizes.iter().all(|size| size["syncs_per_checkpoint"].as_f64() >= Some(1.0)), "{value}");
        } else {
            assert!(text.lines().count() > 4 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }
    let output = piton(&beside, &["bench", "--dir", "nowhere"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--dir"), "{output:?}");
    assert_eq!(piton(&beside, &["bench", "--seconds=-1"]).status.code(), Some(3));
}

#[test]
fn watch_sees_what_an_engine_commits_and_a_store_that_is_not_there_yet() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let mut child = Command::new(env!("CARGO_BIN_EXE_piton"));
    let child = child.arg("--store").arg(&root).args(["--json", "watch", "--interval", "0.02", "--count", "100"]);
    let mut child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let lines = io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut looks = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert!(looks.next().unwrap()["error"].as_str().unwrap().contains("there is no store"));
    let store = stores::in_use(&root);
    let all: Vec<_> = looks.collect();
    assert!(child.wait().unwrap().success());
    let last = all.last().unwrap();
    assert_eq!((last["checkpoints"].as_u64(), last["error"].as_str()), (Some(4), None), "{last}");
    assert_eq!(last["newest"].as_array().unwrap().last().unwrap()["id"].as_u64(), Some(4));
    drop(store);
    let output = piton(&root, &["watch", "--count", "2", "--interval", "0"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() == 2 && text.contains("newest 4, 0 per minute"), "{text}");
}

#[test]
fn completions_and_the_manual_know_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["completions", "bash"][..], &["completions", "zsh"], &["completions", "fish"], &["man"]] {
        let output = piton(&dir.path().join("none"), arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        for command in
            ["list", "show", "cat", "verify", "du", "diff", "log", "salvage", "doctor", "rollback", "watch", "bench"]
        {
            assert!(text.contains(command), "{arguments:?} lacks {command}");
        }
    }
}
