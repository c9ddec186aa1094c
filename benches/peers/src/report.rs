//! Tables.

use std::time::Duration;

use crate::{measure::Line, workload::Workload};

type Column = (&'static str, fn(&Line, Duration) -> String);

/// Of each checkpoint.
const TAKING: [Column; 10] = [
    ("peer", |line, _| line.kind.name.to_owned()),
    ("median", |line, _| time(line.quantile(0.5))),
    ("of floor", ratio),
    ("least", |line, _| time(line.quantile(0.0))),
    ("99 %", |line, _| time(line.quantile(0.99))),
    ("calls", |line, _| line.calls.map_or_else(String::new, |(calls, _)| format!("{calls:.1}"))),
    ("syncs", |line, _| line.calls.map_or_else(String::new, |(_, syncs)| format!("{syncs:.1}"))),
    ("processor", |line, _| time(line.processor / u32::try_from(line.times.len().max(1)).unwrap_or(u32::MAX))),
    ("written", |line, _| line.written.map_or_else(String::new, size)),
    ("keeps", |line, _| line.kind.keeps.to_owned()),
];

/// Of the steps at the end.
const AFTERWARDS: [Column; 9] = [
    ("peer", |line, _| line.kind.name.to_owned()),
    ("on disk", |line, _| size(line.allocated)),
    ("reopen", |line, _| time(line.after.opened)),
    ("and read all", |line, _| time(line.after.restored)),
    ("the same, cold", |line, _| time(line.after.restored_cold)),
    ("which verifies", |line, _| line.kind.verifies.to_owned()),
    ("duplicate", |line, _| line.after.duplicated.map_or_else(none, time)),
    ("export", |line, _| line.after.exported.map_or_else(none, time)),
    ("prune", |line, _| line.after.pruned.map_or_else(none, time)),
];

/// Prints the measurements, the fastest peer first.
pub fn print(workload: &Workload, lines: &[Line], markdown: bool) {
    let floor = lines.iter().find(|line| line.kind.name == "floor").map(|line| line.quantile(0.5));
    let mut lines: Vec<_> = lines.iter().collect();
    lines.sort_by_key(|line| line.quantile(0.5));
    println!("\n{}{}", if markdown { "### " } else { "" }, workload.describe());
    table(&TAKING, &lines, floor.unwrap_or_default(), markdown);
    lines.sort_by_key(|line| line.after.restored);
    table(&AFTERWARDS, &lines, floor.unwrap_or_default(), markdown);
}

fn table(columns: &[Column], lines: &[&Line], floor: Duration, markdown: bool) {
    let mut rows = vec![columns.iter().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>()];
    rows.extend(lines.iter().map(|line| columns.iter().map(|(_, cell)| cell(line, floor)).collect()));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    println!();
    for (n, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let cells: Vec<_> = cells.collect();
        if markdown {
            println!("| {} |", cells.join(" | "));
            if n == 0 {
                println!("|{}", "---|".repeat(columns.len()));
            }
        } else {
            println!("{}", cells.join("  "));
        }
    }
}

fn none() -> String {
    "-".to_owned()
}

fn ratio(line: &Line, floor: Duration) -> String {
    if floor.is_zero() { none() } else { format!("{:.2}", line.quantile(0.5).as_secs_f64() / floor.as_secs_f64()) }
}

/// In milliseconds, with three digits.
pub fn time(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    let digits = if millis < 10.0 {
        2
    } else if millis < 100.0 {
        1
    } else {
        0
    };
    format!("{millis:.digits$} ms")
}

/// In KiB or MiB.
fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let kib = bytes as f64 / 1024.0;
    if kib < 1000.0 { format!("{kib:.0} KiB") } else { format!("{:.1} MiB", kib / 1024.0) }
}
