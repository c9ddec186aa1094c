//! Tables.

use std::time::Duration;

use crate::{measure::Line, workload::Workload};

const COLUMNS: [&str; 11] =
    ["peer", "median", "of floor", "least", "99 %", "calls", "syncs", "processor", "on disk", "restore", "keeps"];

/// Prints what was measured, the fastest first.
pub fn print(workload: &Workload, lines: &[Line], markdown: bool) {
    let floor = lines.iter().find(|line| line.kind.name == "floor").map(|line| line.quantile(0.5));
    let mut lines: Vec<_> = lines.iter().collect();
    lines.sort_by_key(|line| line.quantile(0.5));
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(lines.iter().map(|line| row(line, floor)));
    println!("\n{}{}\n", if markdown { "### " } else { "" }, workload.describe());
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
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
                println!("|{}", "---|".repeat(COLUMNS.len()));
            }
        } else {
            println!("{}", cells.join("  "));
        }
    }
}

fn row(line: &Line, floor: Option<Duration>) -> [String; COLUMNS.len()] {
    let median = line.quantile(0.5);
    let ratio = floor.map_or_else(String::new, |floor| format!("{:.2}", median.as_secs_f64() / floor.as_secs_f64()));
    let (calls, syncs) =
        line.calls.map_or_else(Default::default, |(calls, syncs)| (format!("{calls:.1}"), format!("{syncs:.1}")));
    let each = line.processor / u32::try_from(line.times.len().max(1)).unwrap_or(u32::MAX);
    [
        line.kind.name.to_owned(),
        time(median),
        ratio,
        time(line.quantile(0.0)),
        time(line.quantile(0.99)),
        calls,
        syncs,
        time(each),
        size(line.allocated),
        format!("{} ({})", time(line.restored), line.kind.verifies),
        line.kind.keeps.to_owned(),
    ]
}

/// In milliseconds, with three digits.
fn time(time: Duration) -> String {
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

/// In MiB.
fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let mib = bytes as f64 / f64::from(1 << 20);
    format!("{mib:.1} MiB")
}
