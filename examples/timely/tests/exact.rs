//! The whole program: its processes are killed, and the counts must be exact all the same.

#![expect(clippy::unwrap_used, reason = "a test says enough by failing")]

use std::{
    fs,
    process::{Command, Output},
};

fn wordcount(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_timely-wordcount")).args(arguments).output().unwrap()
}

/// Runs the program, which must find its counts exact. Returns what it says.
fn exact(arguments: &[&str]) -> String {
    let output = wordcount(arguments);
    let said = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.ends_with("exact: yes\n"), "{arguments:?}: {said}{complaint}");
    said
}

#[test]
fn killed_and_rescaled_processes_count_each_word_once() {
    let said = exact(&["--kill", "3", "--rescale", "4,6,2", "--lines", "24000", "--seconds", "5"]);
    assert!(said.contains("lives: 4") && said.contains("words: 192000"), "{said}");
}

#[test]
fn rescaling_without_kills_counts_each_word_once() {
    let said = exact(&["--rescale", "2,6,4", "--lines", "24000", "--seconds", "3"]);
    assert!(said.contains("lives: 3"), "{said}");
}

#[test]
fn one_process_with_one_worker_and_one_checkpoint_counts_each_word_once() {
    let said = exact(&[
        "--processes",
        "1",
        "--workers",
        "1",
        "--epochs-per-checkpoint",
        "0",
        "--lines",
        "12000",
        "--seconds",
        "0",
    ]);
    assert!(said.contains("checkpoints: 1,"), "{said}");
}

#[test]
fn files_of_a_directory_are_counted_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "The quick, the LAZY;\n\n1 dog's\u{e4}x").unwrap();
    fs::write(dir.path().join("b"), "the end\n".repeat(1200)).unwrap();
    let (input, output) = (dir.path().to_str().unwrap(), dir.path().join("counts"));
    exact(&["--input", input, "--seconds", "1", "--output", output.to_str().unwrap()]);
    let counts = fs::read_to_string(output).unwrap();
    assert!(counts.contains("0 the 502\n") && counts.contains("2 end 200\n") && counts.contains("0 x 1\n"), "{counts}");
}

#[test]
fn kills_that_found_no_time_are_an_error() {
    let output = wordcount(&["--kill", "50", "--lines", "2400", "--seconds", "0"]);
    assert!(!output.status.success());
}
