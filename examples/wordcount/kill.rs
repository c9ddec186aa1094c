//! `--kill`: counts in a child process, kills that again and again, and proves that the result is exact all the same.
//!
//! The input must be large enough to be killed in the middle of it as often as the user wants. If it is not, it is
//! counted several times over, in *passes*. How many is estimated from how long an uninterrupted count took. If the
//! child gets to the end too early nevertheless, it is started again with more passes: it goes on from where it was, so
//! that nothing is begun anew.

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    arguments::Arguments,
    child::{self, Ending, Moment},
    counts::WordCounts,
    input::{self, InputFile},
    progress::Progress,
    reference,
    report::{self, Exact, Report},
    state::State,
};

/// How often passes are added before giving up. They double each time.
const MAX_EXTENSIONS: u32 = 10;
/// How long one life counts besides waiting for checkpoints to be due: rather too short, as passes can be added.
const LIFE: Duration = Duration::from_millis(100);
/// However short the input is: far from where the counts would overflow.
const MOST_PASSES: u64 = 1 << 32;

/// Kills so many times, compares, shows the result.
pub(crate) fn run(arguments: &Arguments, kills: u32, directory: &Path, files: &[InputFile]) -> Result<(), Failure> {
    let len = input::total_len(files);
    if len == 0 {
        return Err("the input is empty: nobody can be killed while counting it".into());
    }
    // Refuses early what the child would refuse, and closes the store again.
    let state = State::open(directory, arguments, files)?;
    let (workers, passes_before) = (state.record().workers, state.latest.as_ref().map_or(0, |_| state.record().passes));
    drop(state);
    let mut progress = Progress::new(len);
    let begun = Instant::now();
    let reference = reference::count(files, |bytes| progress.set_position(bytes))?;
    let pass_time = begun.elapsed() / u32::try_from(workers)?;
    let mut trial = Trial { arguments, directory, files, kills, pass_time, while_writing: 0 };
    trial.count_and_kill(passes_before, &mut progress)?;
    progress.finish();
    trial.prove(&reference, progress)
}

struct Trial<'a> {
    arguments: &'a Arguments,
    directory: &'a Path,
    files: &'a [InputFile],
    /// How many are wanted.
    kills: u32,
    /// How long the workers probably need for one pass.
    pass_time: Duration,
    /// How many kills hit while a checkpoint was being written.
    while_writing: u32,
}

impl Trial<'_> {
    /// Runs the child until it was killed as often as wanted and has then counted everything.
    fn count_and_kill(&mut self, passes_before: u64, progress: &mut Progress) -> Result<(), Failure> {
        let (mut killed, mut extensions) = (0, 0);
        let mut passes = passes_before + self.passes_for(self.kills);
        loop {
            progress.set_len(input::total_len(self.files).saturating_mul(passes));
            // About half of the kills are meant to hit a checkpoint in the making.
            let moment = match killed {
                _ if killed == self.kills => Moment::Never,
                _ if killed >= 2 * self.while_writing => Moment::WhileWriting,
                _ => Moment::Any,
            };
            let every = self.arguments.every;
            match child::live(&mut self.child(passes)?, every, moment, |event| progress.see(event))? {
                Ending::Killed { writing } => {
                    killed += 1;
                    self.while_writing += u32::from(writing);
                    progress.restarted();
                }
                Ending::Finished if killed == self.kills => return Ok(()),
                Ending::Finished if extensions == MAX_EXTENSIONS => return Err(self.too_fast(killed, passes)),
                Ending::Finished => {
                    passes += self.passes_for(self.kills - killed) << extensions;
                    extensions += 1;
                }
            }
        }
    }

    /// How many passes probably take long enough for so many kills.
    fn passes_for(&self, kills: u32) -> u64 {
        let needed = (2 * self.arguments.every + LIFE) * kills;
        let passes = needed.as_nanos() / self.pass_time.as_nanos().max(1);
        u64::try_from(passes).unwrap_or(u64::MAX).clamp(1, MOST_PASSES)
    }

    /// This program again, as a child.
    fn child(&self, passes: u64) -> Result<Command, Failure> {
        let Arguments { workers, every, dump, paths, .. } = self.arguments;
        let mut command = Command::new(env::current_exe()?);
        command.arg("--child").arg("--passes").arg(passes.to_string());
        command.arg("--state").arg(self.directory);
        command.arg("--every").arg(every.as_millis().to_string());
        if let Some(workers) = workers {
            command.arg("--workers").arg(workers.to_string());
        }
        if let Some(dump) = dump {
            // It writes none, but has to know that this file is no input.
            command.arg("--dump").arg(dump);
        }
        command.arg("--").args(paths);
        Ok(command)
    }

    fn too_fast(&self, killed: u32, passes: u64) -> Failure {
        let wanted = self.kills;
        format!("the input was counted {passes} times before it could be killed {wanted} times, only {killed}").into()
    }

    /// Reads what is on disk, and compares it with what must be there.
    fn prove(&self, reference: &WordCounts, progress: Progress) -> Result<(), Failure> {
        let state = State::open(self.directory, self.arguments, self.files)?;
        let (record, totals) = (state.record(), state.totals()?);
        if !state.is_finished()? {
            return Err("the child finished without a checkpoint that says so".into());
        }
        if let Err(difference) = reference::compare(reference, &totals, record.passes) {
            writeln!(io::stdout(), "exact: no")?;
            return Err(difference.into());
        }
        let report = Report {
            words: report::per_pass(totals, record.passes)?,
            passes: record.passes,
            checkpoints: state.checkpoints(),
            restarts: u64::from(self.kills),
            exact: Exact::Proven { while_writing: self.while_writing, leftovers: progress.leftovers() },
            durations: progress.into_durations(),
        };
        report.publish(self.arguments.dump.as_deref())
    }
}
