//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

pub(crate) const USAGE: &str = "\
usage: wordcount [--workers N] [--every MS] [--kill K] [--state DIR] [--dump FILE] [PATH...]
       wordcount --help";

pub(crate) const HELP: &str = "\
Counts words, exactly once whatever crashes: with checkpoints in a piton store.

usage: wordcount [--workers N] [--every MS] [--kill K] [--state DIR] [--dump FILE] [PATH...]

A word is a run of ASCII letters, in lower case. A PATH is a file, or a directory
with everything below it but links and the directories that are hidden (`.*`) or
named `target`; by default the current directory.

  --workers N   threads that count; by default one per core, or as many as the
                state was begun with
  --every MS    milliseconds from the start of one checkpoint to the next, at least
                10; 100
  --kill K      count in a child process, kill that K times with SIGKILL, restart
                it each time, and compare the result with an uninterrupted count;
                a small input is counted several times over, to be long enough
  --state DIR   where the checkpoints go; a run goes on from what it finds there.
                By default a temporary directory, removed at the end
  --dump FILE   write `word<TAB>count` there, sorted by word
  --help        this

Internal, for the child process of --kill:
  --child       report to stdout instead of showing the result
  --passes P    count the input until it was counted P times

Exit code: 0; 1 if it failed or the result was not exact; 2 for a wrong call.
";

/// What the user wants.
#[derive(Debug)]
pub(crate) enum Request {
    Help,
    Count(Arguments),
}

#[derive(Debug)]
pub(crate) struct Arguments {
    /// `None`: as many as the state has, or as there are cores.
    pub(crate) workers: Option<usize>,
    pub(crate) every: Duration,
    pub(crate) kill: Option<u32>,
    pub(crate) state: Option<PathBuf>,
    pub(crate) dump: Option<PathBuf>,
    pub(crate) child: bool,
    /// At least so many: a state that was begun with more stays with them.
    pub(crate) passes: u64,
    pub(crate) paths: Vec<PathBuf>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            workers: None,
            every: Duration::from_millis(100),
            kill: None,
            state: None,
            dump: None,
            child: false,
            passes: 1,
            paths: Vec::new(),
        }
    }
}

/// Reads the command line; the error says what is wrong with it.
pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Request, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--help" | "-h") => return Ok(Request::Help),
            Some("--child") => arguments.child = true,
            Some("--") => arguments.paths.extend(words.by_ref().map(PathBuf::from)),
            Some(option) if option.starts_with('-') => {
                let value = words.next();
                let value = || value.ok_or_else(|| format!("{option} needs a value"));
                set(&mut arguments, option, value)?;
            }
            _ => arguments.paths.push(word.into()),
        }
    }
    if arguments.paths.is_empty() {
        arguments.paths.push(".".into());
    }
    Ok(Request::Count(arguments))
}

fn set(
    arguments: &mut Arguments,
    option: &str,
    value: impl FnOnce() -> Result<OsString, String>,
) -> Result<(), String> {
    match option {
        "--workers" => arguments.workers = Some(number(option, &value()?, 1..=1000)?),
        "--every" => arguments.every = Duration::from_millis(number(option, &value()?, 10..=86_400_000)?),
        "--kill" => arguments.kill = Some(number(option, &value()?, 1..=10_000)?),
        "--passes" => arguments.passes = number(option, &value()?, 1..=u64::MAX)?,
        "--state" => arguments.state = Some(value()?.into()),
        "--dump" => arguments.dump = Some(value()?.into()),
        _ => return Err(format!("there is no option {option}")),
    }
    Ok(())
}

fn number<T>(option: &str, text: &OsString, range: std::ops::RangeInclusive<T>) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let value = text.to_str().and_then(|text| text.parse().ok()).filter(|value| range.contains(value));
    value.ok_or_else(|| {
        let (start, end) = (range.start(), range.end());
        format!("{option} needs a number from {start} to {end}, not {}", text.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_and_paths_mix() {
        let Ok(Request::Count(arguments)) = parsed("a --workers 3 b --every 17 -- --kill") else { panic!() };
        assert_eq!(arguments.workers, Some(3));
        assert_eq!(arguments.every, Duration::from_millis(17));
        assert_eq!(arguments.kill, None);
        assert_eq!(arguments.paths, [PathBuf::from("a"), "b".into(), "--kill".into()]);
    }

    #[test]
    fn wrong_calls_say_why() {
        for (line, why) in [
            ("--wokers 3", "there is no option --wokers"),
            ("--workers", "--workers needs a value"),
            ("--workers 0", "--workers needs a number from 1 to 1000, not 0"),
            ("--kill many", "--kill needs a number from 1 to 10000, not many"),
        ] {
            assert_eq!(parsed(line).unwrap_err(), why);
        }
    }
}
