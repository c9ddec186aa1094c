//! `piton watch`

mod draw;
mod sample;

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    path::Path,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};

use self::sample::{Sample, Watcher};
use super::Failure;
use crate::{Outcome, Verdict, output::Output, units};

pub(super) fn run(store: &Path, output: &Output, interval: f64, count: Option<u64>) -> Outcome {
    let interval = Duration::try_from_secs_f64(interval).map_err(|_| "--interval is a number of seconds")?;
    let mut watcher = Watcher::new(store);
    let looks = count.unwrap_or(u64::MAX);
    if output.is_json() || !stdout().is_terminal() {
        in_lines(&mut watcher, output, interval, looks)?;
        return Ok(Verdict::Fine);
    }
    let mut terminal = ratatui::try_init()?;
    let ended = on_screen(&mut terminal, store, &mut watcher, interval, looks);
    ratatui::restore();
    ended.map(|()| Verdict::Fine)
}

fn on_screen(
    terminal: &mut DefaultTerminal,
    store: &Path,
    watcher: &mut Watcher<'_>,
    interval: Duration,
    looks: u64,
) -> Result<(), Failure> {
    for _ in 0..looks {
        let sample = watcher.look();
        terminal.draw(|frame| draw::draw(frame, store, sample))?;
        if wants_to_leave(interval)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits for the next look, or for the end.
fn wants_to_leave(interval: Duration) -> Result<bool, Failure> {
    let begun = Instant::now();
    while let Some(left) = interval.checked_sub(begun.elapsed()) {
        if !event::poll(left)? {
            break;
        }
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(true),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(true),
                _ => {}
            },
            // Drawn anew at once.
            Event::Resize(..) => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}

/// A line for each look.
fn in_lines(watcher: &mut Watcher<'_>, output: &Output, interval: Duration, looks: u64) -> Result<(), Failure> {
    for look in 0..looks {
        if look > 0 {
            std::thread::sleep(interval);
        }
        let sample = watcher.look();
        let mut out = stdout().lock();
        if output.is_json() {
            serde_json::to_writer(&mut out, sample)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", line(sample))?;
        }
        out.flush()?;
    }
    Ok(())
}

fn line(sample: &Sample) -> String {
    let time = units::time(sample.time_ms);
    if let Some(wrong) = sample.error.iter().chain(&sample.lost).next() {
        return format!("{time}  {wrong}");
    }
    let newest = sample.newest.last().map_or_else(|| "none".to_owned(), |newest| newest.id.to_string());
    let (rate, alive, dead) = (draw::rate(sample), units::bytes(sample.logical_bytes), units::bytes(sample.dead_bytes));
    format!("{time}  newest {newest}, {rate}; {alive} alive, {dead} dead")
}
