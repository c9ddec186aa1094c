//! Where answers go: tables and sentences for people, JSON for programs.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _, stderr, stdout},
};

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;

use crate::arguments::{Arguments, Color};

/// The width of tables where stdout is no terminal.
const WIDTH: u16 = 80;

/// How something is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    colors: bool,
}

impl Output {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let colors = match arguments.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        };
        Self { json: arguments.json, colors }
    }

    /// Whether a program reads the answers.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether somebody watches.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.json && stderr().is_terminal()
    }

    /// Answers: with this value in JSON, or with what `tell` says.
    pub(crate) fn answer(
        &self,
        value: &impl Serialize,
        tell: impl FnOnce(&mut Text<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut out = stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, value)?;
            return writeln!(out);
        }
        tell(&mut Text { out: &mut out, colors: self.colors })
    }

    /// Says why a command failed.
    pub(crate) fn error(&self, error: &dyn std::error::Error) {
        let mut err = stderr().lock();
        let said = if self.json {
            writeln!(err, "{}", serde_json::json!({ "error": error.to_string() }))
        } else {
            let mut text = Text { out: &mut err, colors: self.colors && stderr().is_terminal() };
            text.toned(Tone::Bad, "error").and_then(|()| text.line(format_args!(": {error}")))
        };
        // Nobody listens.
        drop(said);
    }
}

/// Text for people.
pub(crate) struct Text<'a> {
    out: &'a mut dyn io::Write,
    colors: bool,
}

impl Text<'_> {
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    /// Text in a tone, without the end of a line.
    pub(crate) fn toned(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let code = match tone {
            Tone::Plain => None,
            Tone::Good => Some(32),
            Tone::Warning => Some(33),
            Tone::Bad => Some(31),
        };
        match code.filter(|_| self.colors) {
            Some(code) => write!(self.out, "\x1b[{code}m{text}\x1b[0m"),
            None => write!(self.out, "{text}"),
        }
    }

    /// A line with a name and a value.
    pub(crate) fn field(&mut self, name: &str, value: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{name:<14}{value}")
    }

    /// A paragraph, indented, in lines that fit.
    pub(crate) fn paragraph(&mut self, text: &str) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).force_no_tty();
        table.set_width(WIDTH).add_row([text]);
        if let Some(column) = table.column_mut(0) {
            column.set_padding((4, 0));
        }
        table.lines().try_for_each(|line| writeln!(self.out, "{}", line.trim_end()))
    }

    /// A table. Columns whose names begin with `>` are numbers.
    pub(crate) fn table(&mut self, columns: &[&str], rows: impl IntoIterator<Item = Vec<Entry>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).force_no_tty();
        let is_terminal = stdout().is_terminal();
        if self.colors {
            table.enforce_styling();
        }
        table.set_width(if is_terminal { table_width() } else { WIDTH });
        let heads = columns.iter().map(|name| Cell::new(name.trim_start_matches('>')).add_attribute(Attribute::Bold));
        table.set_header(heads);
        for row in rows {
            table.add_row(row.into_iter().map(|Entry(text, tone)| styled(Cell::new(text), tone)));
        }
        for (column, name) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 1));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The width of the terminal.
fn table_width() -> u16 {
    Table::new().width().unwrap_or(WIDTH)
}

fn styled(cell: Cell, tone: Tone) -> Cell {
    use comfy_table::Color;
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Warning => cell.fg(Color::DarkYellow),
        Tone::Bad => cell.fg(Color::DarkRed),
    }
}

/// An entry of a table.
#[derive(Debug)]
pub(crate) struct Entry(pub(crate) String, pub(crate) Tone);

impl<T: Into<String>> From<T> for Entry {
    fn from(text: T) -> Self {
        Self(text.into(), Tone::Plain)
    }
}
