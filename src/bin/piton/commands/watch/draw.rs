//! The screen.

use std::path::Path;

use piton::CheckpointKind;
use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Cell, Paragraph, Row, Sparkline, Table},
};

use super::sample::{One, Sample};
use crate::units;

const COLUMNS: [&str; 7] = ["ID", "KIND", "TIME (UTC)", "STATES", "BYTES", "CHANGED", "MARKS"];
const WIDTHS: [Constraint; 7] = [
    Constraint::Length(10),
    Constraint::Length(10),
    Constraint::Length(19),
    Constraint::Length(10),
    Constraint::Length(10),
    Constraint::Length(10),
    Constraint::Fill(1),
];

pub(super) fn draw(frame: &mut Frame<'_>, store: &Path, sample: &Sample) {
    let rows = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(7),
        Constraint::Length(1),
        Constraint::Length(3),
        Constraint::Fill(1),
    ]);
    let [title, fields, label, chart, table] = rows.areas(frame.area());
    let head = format!("{}  {}  q leaves", store.display(), units::time(sample.time_ms));
    frame.render_widget(Paragraph::new(Line::from(head).bold()), title);
    frame.render_widget(Paragraph::new(lines(sample)), fields);
    frame.render_widget(Line::from("bytes that each checkpoint changed").dim(), label);
    let skipped = sample.newest.len().saturating_sub(usize::from(chart.width));
    let bars = sample.newest.iter().skip(skipped).map(|one| one.changed_bytes);
    frame.render_widget(Sparkline::default().data(bars).style(Style::new().fg(Color::Cyan)), chart);
    let newest = sample.newest.iter().rev().take(usize::from(table.height.saturating_sub(1)));
    let header = Row::new(COLUMNS.map(Cell::from)).dim();
    frame.render_widget(Table::new(newest.map(row), WIDTHS).header(header), table);
}

fn lines(sample: &Sample) -> Vec<Line<'static>> {
    let mut lines = vec![
        field("newest", newest(sample), Style::new()),
        field("rate", rate(sample), Style::new()),
        field("checkpoints", checkpoints(sample), Style::new()),
        field("space", space(sample), Style::new()),
        field("free", units::bytes(sample.free_bytes), Style::new()),
    ];
    let wrong = sample.error.iter().chain(&sample.lost).next();
    match wrong {
        Some(wrong) => lines.push(field("wrong", wrong.clone(), Style::new().fg(Color::Red))),
        None => lines.push(field("members", sample.members.to_string(), Style::new())),
    }
    lines
}

fn field(name: &str, value: String, style: Style) -> Line<'static> {
    Line::from(vec![Span::from(format!("{name:<13}")).dim(), Span::styled(value, style)])
}

fn newest(sample: &Sample) -> String {
    let Some(newest) = sample.newest.last() else { return "none".to_owned() };
    let age = sample.age_ms().map_or_else(String::new, |age| format!(", {} ago", units::micros(age * 1000)));
    let usual =
        sample.interval_ms().map_or_else(String::new, |gap| format!("; usually each {}", units::micros(gap * 1000)));
    format!("{}{age}{usual}", newest.id)
}

pub(super) fn rate(sample: &Sample) -> String {
    let watched = u128::from(sample.watched_ms.max(1));
    let per = |count: u64, ms: u128| u64::try_from(u128::from(count) * ms / watched).unwrap_or(u64::MAX);
    let bytes = units::bytes(per(sample.seen_bytes, 1000));
    format!("{} per minute, {bytes} changed per second", per(sample.seen, 60_000))
}

fn checkpoints(sample: &Sample) -> String {
    let Sample { checkpoints, pinned, rolled_back, damaged, .. } = sample;
    format!("{checkpoints}; {pinned} pinned, {rolled_back} rolled back, {damaged} damaged")
}

fn space(sample: &Sample) -> String {
    let of = units::bytes;
    let Sample { logical_bytes, allocated_bytes, dead_bytes, files, .. } = *sample;
    let files = units::counted(files, "file");
    format!("{} alive, {} dead, {} allocated in {files}", of(logical_bytes), of(dead_bytes), of(allocated_bytes))
}

fn row(one: &One) -> Row<'static> {
    let kind = match one.kind {
        Some(CheckpointKind::Savepoint) => "savepoint",
        Some(CheckpointKind::Checkpoint) => "checkpoint",
        None => "damaged",
    };
    let marks = [(one.pinned, "pinned"), (one.rolled_back, "rolled back")];
    let marks = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect::<Vec<_>>().join(" ");
    Row::new([
        one.id.to_string(),
        kind.to_owned(),
        units::time(one.timestamp_ms),
        units::count(one.states),
        units::bytes(one.bytes),
        units::bytes(one.changed_bytes),
        marks,
    ])
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn screen(sample: &Sample) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("it is in memory");
        terminal.draw(|frame| draw(frame, Path::new("/var/lib/words"), sample)).expect("it is in memory");
        let buffer = terminal.backend().buffer();
        let cells: Vec<_> = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
        cells.chunks(80).map(|line| line.concat().trim_end().to_owned() + "\n").collect()
    }

    fn one(id: u64) -> One {
        One {
            id: piton::CheckpointId::new(id).expect("it is not 0"),
            kind: Some(if id == 2 { CheckpointKind::Savepoint } else { CheckpointKind::Checkpoint }),
            timestamp_ms: 1_700_000_000_000 + id * 5000,
            states: 1_000_000,
            bytes: 80_000_000,
            changed_bytes: id * 1000,
            pinned: id == 1,
            rolled_back: false,
        }
    }

    #[test]
    fn screen_of_80_columns_has_all() {
        let sample = Sample {
            time_ms: 1_700_000_017_500,
            newest: (1..=3).map(one).collect(),
            checkpoints: 3,
            pinned: 1,
            logical_bytes: 81_000_000,
            files: 4,
            allocated_bytes: 90_000_000,
            dead_bytes: 9_000_000,
            free_bytes: 120_000_000_000,
            members: 2,
            seen: 2,
            seen_bytes: 5000,
            watched_ms: 10_000,
            ..Sample::default()
        };
        let expected = "\
/var/lib/words  2023-11-14 22:13:37  q leaves

newest       3, 2.5 s ago; usually each 5.0 s
rate         12 per minute, 500 B changed per second
checkpoints  3; 1 pinned, 0 rolled back, 0 damaged
space        81.00 MB alive, 9.00 MB dead, 90.00 MB allocated in 4 files
free         120.00 GB
members      2

bytes that each checkpoint changed
";
        let screen = screen(&sample);
        assert!(screen.starts_with(expected), "{screen}");
        assert!(screen.contains("2          savepoint  2023-11-14 22:13:30 1,000,000  80.00 MB   2.00 kB"), "{screen}");
        assert!(screen.contains("pinned"), "{screen}");
    }

    #[test]
    fn what_is_wrong_is_there_and_an_empty_store_is_none() {
        let sample = Sample { error: Some("there is no store".to_owned()), ..Sample::default() };
        let screen = screen(&sample);
        assert!(screen.contains("newest       none") && screen.contains("wrong        there is no store"), "{screen}");
    }
}
