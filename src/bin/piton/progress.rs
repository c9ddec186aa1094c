//! A bar for what takes long, on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use piton::observe::{Progress, Task};

use crate::output::Output;

const BYTES: &str = "{msg} {bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta}";
const ITEMS: &str = "{msg} {bar:30} {human_pos}/{human_len} {eta}";

/// A bar that counts bytes; hidden unless somebody watches.
pub(crate) fn bytes(output: &Output, what: &str, total: u64) -> ProgressBar {
    let bar = bar(output, total);
    style(&bar, BYTES);
    bar.set_message(what.to_owned());
    bar
}

/// A bar that counts; hidden unless somebody watches.
pub(crate) fn items(output: &Output, what: &str, total: u64) -> ProgressBar {
    let bar = bar(output, total);
    style(&bar, ITEMS);
    bar.set_message(what.to_owned());
    bar
}

/// Shows how far a store is, whatever it does.
pub(crate) fn of_store(output: &Output) -> impl Fn(Progress) + Send + Sync + 'static {
    let bar = bar(output, 0);
    move |progress| {
        let what = match progress.task {
            Task::CheckFiles => "check",
            Task::RemoveFiles => "remove",
            Task::Verify => "verify",
            Task::Export => "export",
            Task::Import => "import",
            _ => "wait",
        };
        let (done, all) = match progress.all_bytes {
            0 => (progress.items, progress.all_items),
            all => (progress.bytes, all),
        };
        if bar.message() != what {
            bar.reset();
            style(&bar, if progress.all_bytes == 0 { ITEMS } else { BYTES });
            bar.set_message(what);
        }
        bar.set_length(all);
        bar.set_position(done);
        if progress.items == progress.all_items {
            bar.finish_and_clear();
            bar.set_message("");
        }
    }
}

fn bar(output: &Output, total: u64) -> ProgressBar {
    let target = if output.shows_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    ProgressBar::with_draw_target(Some(total), target)
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
