//! A picture of the medians: a panel for each workload, a row for each peer, on a scale of decades.

use std::{path::Path, time::Duration};

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{Result, measure::Line, report, workload::Workload};

/// In pixels.
const WIDTH: i32 = 1080;
const MARGIN: i32 = 28;
const GAP: i32 = 48;
const ROW: i32 = 21;
/// Above the rows of a panel.
const HEAD: i32 = 34;
/// Below them: the scale, and a gap.
const FOOT: i32 = 44;
/// For the names left of the scale, and for the figures right of it.
const NAMES: i32 = 118;
const FIGURES: i32 = 66;
const CAPTION: i32 = 24;
const COLUMNS: usize = 2;

struct Theme {
    background: RGBColor,
    ink: RGBColor,
    muted: RGBColor,
    grid: RGBColor,
    ours: RGBColor,
    others: RGBColor,
}

const LIGHT: Theme = Theme {
    background: RGBColor(255, 255, 255),
    ink: RGBColor(31, 35, 40),
    muted: RGBColor(110, 119, 129),
    grid: RGBColor(229, 232, 236),
    ours: RGBColor(9, 105, 218),
    others: RGBColor(139, 148, 158),
};

const DARK: Theme = Theme {
    background: RGBColor(13, 17, 23),
    ink: RGBColor(230, 237, 243),
    muted: RGBColor(139, 148, 158),
    grid: RGBColor(36, 42, 50),
    ours: RGBColor(88, 166, 255),
    others: RGBColor(118, 126, 137),
};

/// The measurements of one workload.
pub type Panel = (Workload, Vec<Line>);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws it twice: under this name, and for dark pages with `-dark` before the ending.
pub fn draw(panels: &[Panel], to: &Path) -> Result<()> {
    let stem = to.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    draw_in(panels, to, &LIGHT)?;
    draw_in(panels, &to.with_file_name(format!("{stem}-dark.svg")), &DARK)
}

fn draw_in(panels: &[Panel], to: &Path, theme: &Theme) -> Result<()> {
    let rows = panels.iter().map(|(_, lines)| lines.len()).max().unwrap_or_default();
    let height = HEAD + i32::try_from(rows)? * ROW + FOOT;
    let down = i32::try_from(panels.len().div_ceil(COLUMNS))?;
    let size = (WIDTH.unsigned_abs(), (2 * MARGIN + down * height + CAPTION).unsigned_abs());
    let root = SVGBackend::new(to, size).into_drawing_area();
    root.fill(&theme.background)?;
    let width = (WIDTH - 2 * MARGIN - GAP) / 2;
    for (n, panel) in panels.iter().enumerate() {
        let (column, row) = (i32::try_from(n % COLUMNS)?, i32::try_from(n / COLUMNS)?);
        let at = (MARGIN + column * (width + GAP), MARGIN + row * height);
        draw_panel(&root, panel, at, width, theme)?;
    }
    let caption = "Time of one durable checkpoint: the dot is the median, the line goes from the least to the 99th \
                   percentile. Each step of the grid is ten times the one before.";
    write(&root, caption, (MARGIN, MARGIN + down * height + 6), 12, theme.muted, HPos::Left)?;
    root.present()?;
    Ok(())
}

/// Where a time is on the scale of a panel.
struct Scale {
    decades: std::ops::RangeInclusive<i32>,
    left: i32,
    width: i32,
}

impl Scale {
    /// From the decade below the least time to the one above the longest.
    fn of(lines: &[Line], left: i32, width: i32) -> Self {
        let ends = lines.iter().flat_map(|line| [line.quantile(0.0), line.quantile(0.99)]).map(log);
        let (low, high) = ends.fold((f64::MAX, f64::MIN), |(low, high), end| (low.min(end), high.max(end)));
        #[expect(clippy::cast_possible_truncation, reason = "few decades")]
        let decades = low.floor() as i32..=(high.ceil() as i32).max(low.floor() as i32 + 1);
        Self { decades, left, width }
    }

    fn at(&self, log: f64) -> i32 {
        let (low, high) = (f64::from(*self.decades.start()), f64::from(*self.decades.end()));
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        let offset = ((log - low) / (high - low) * f64::from(self.width)).round() as i32;
        self.left + offset
    }
}

/// Of milliseconds, to the base of 10.
fn log(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).max(1e-6).log10()
}

fn draw_panel(root: &Area<'_>, panel: &Panel, (x, y): (i32, i32), width: i32, theme: &Theme) -> Result<()> {
    let (workload, lines) = panel;
    let mut lines: Vec<_> = lines.iter().collect();
    lines.sort_by_key(|line| line.quantile(0.5));
    write(root, &workload.describe(), (x, y + 8), 15, theme.ink, HPos::Left)?;
    let scale = Scale::of(&panel.1, x + NAMES, width - NAMES - FIGURES);
    let (top, bottom) = (y + HEAD - 6, y + HEAD + i32::try_from(lines.len())? * ROW);
    for decade in scale.decades.clone() {
        let at = scale.at(f64::from(decade));
        root.draw(&PathElement::new(vec![(at, top), (at, bottom)], theme.grid.stroke_width(1)))?;
        let label = if decade < 0 {
            format!("{:.*} ms", usize::try_from(-decade)?, 10_f64.powi(decade))
        } else {
            format!("{} ms", 10_u64.pow(decade.unsigned_abs()))
        };
        write(root, &label, (at, bottom + 11), 11, theme.muted, HPos::Center)?;
    }
    for (n, line) in lines.into_iter().enumerate() {
        draw_row(root, line, &scale, (x, y + HEAD + i32::try_from(n)? * ROW + ROW / 2), x + width, theme)?;
    }
    Ok(())
}

fn draw_row(root: &Area<'_>, line: &Line, scale: &Scale, (x, y): (i32, i32), right: i32, theme: &Theme) -> Result<()> {
    let is_ours = line.kind.name == "piton";
    let (color, text) = if is_ours { (theme.ours, theme.ours) } else { (theme.others, theme.ink) };
    let [least, median, most] = [0.0, 0.5, 0.99].map(|of| scale.at(log(line.quantile(of))));
    root.draw(&PathElement::new(vec![(least, y), (most, y)], color.mix(0.5).stroke_width(2)))?;
    root.draw(&Circle::new((median, y), if is_ours { 6 } else { 5 }, color.filled()))?;
    write(root, line.kind.name, (x, y), 13, text, HPos::Left)?;
    write(root, &report::time(line.quantile(0.5)), (right, y), 13, text, HPos::Right)
}

fn write(root: &Area<'_>, text: &str, at: (i32, i32), size: u32, color: RGBColor, side: HPos) -> Result<()> {
    let style = ("system-ui, sans-serif", size).into_font().color(&color).pos(Pos::new(side, VPos::Center));
    Ok(root.draw(&Text::new(text.to_owned(), at, style))?)
}
