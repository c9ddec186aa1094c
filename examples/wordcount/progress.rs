//! A bar on the terminal, and nothing where stderr is none; and how long the checkpoints took.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{complain, event::Event};

/// Shows how far the store is when it opens, which takes a moment if there is much to look at.
pub(crate) fn of_store() -> impl Fn(piton::observe::Progress) + Send + Sync + 'static {
    let bar = ProgressBar::new(0);
    move |progress| {
        bar.set_length(progress.all_items);
        bar.set_position(progress.items);
        if progress.items == progress.all_items {
            bar.finish_and_clear();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    durations: Vec<Duration>,
    restarts: u32,
    leftovers: u64,
}

impl Progress {
    /// A bar for so many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes);
        let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, durations: Vec::new(), restarts: 0, leftovers: 0 }
    }

    /// Begins again with another number of bytes.
    pub(crate) fn set_len(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    pub(crate) fn set_position(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    pub(crate) fn see(&mut self, event: &Event) {
        match event {
            Event::Opened { leftovers } => self.leftovers += leftovers,
            Event::Begun => {}
            Event::Committed { took, bytes } => {
                self.durations.push(*took);
                self.bar.set_position(*bytes);
            }
            Event::Failed { why } => {
                self.bar.suspend(|| complain(&format!("wordcount: a checkpoint failed: {why}")));
            }
        }
        self.show();
    }

    pub(crate) fn restarted(&mut self) {
        self.restarts += 1;
        self.show();
    }

    fn show(&self) {
        let (checkpoints, restarts) = (self.durations.len(), self.restarts);
        self.bar.set_message(format!("{checkpoints} checkpoints, {restarts} restarts"));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// How many files of killed processes were removed.
    pub(crate) fn leftovers(&self) -> u64 {
        self.leftovers
    }

    /// How long each checkpoint took.
    pub(crate) fn into_durations(self) -> Vec<Duration> {
        self.durations
    }
}
