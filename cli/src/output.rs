//! What a command prints: a [`View`], as a table for people, or as JSON or YAML for programs.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::Failure;

/// The form of what goes to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// JSON, names in camelCase
    Json,
    /// YAML, the same names as JSON
    Yaml,
}

/// A result that can be printed in every [`Format`].
pub trait View: Serialize {
    /// The form for people; without a newline at the end.
    fn text(&self, paint: Paint) -> String;
}

/// Writes results to stdout.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    format: Format,
    paint: Paint,
}

impl Printer {
    /// For this process's stdout: colours only on a terminal, and never with `NO_COLOR`.
    pub fn new(format: Format) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { format, paint: Paint(wanted && std::io::stdout().is_terminal()) }
    }

    /// The form chosen.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Prints one result.
    pub fn print(&self, view: &impl View) -> Result<(), Failure> {
        write_line(&render(view, self.format, self.paint)?)
    }

    /// Prints one result of many: JSON takes one line, YAML one document.
    pub fn print_next(&self, view: &impl View) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => view.text(self.paint),
            Format::Json => serde_json::to_string(view).map_err(unprintable)?,
            Format::Yaml => format!("---\n{}", serde_yaml::to_string(view).map_err(unprintable)?.trim_end()),
        };
        write_line(&text)
    }
}

fn unprintable(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("cannot print the result: {error}"))
}

fn write_line(text: &str) -> Result<(), Failure> {
    write_bytes(format!("{text}\n").as_bytes())
}

/// Writes bytes to stdout at once; a reader that went away ends the command without a word.
pub fn write_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        // `gantry consume … | head -1` is a way to use it, not an error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
}

/// The text of a result; without a newline at the end.
pub fn render(view: &impl View, format: Format, paint: Paint) -> Result<String, Failure> {
    match format {
        Format::Table => Ok(view.text(paint)),
        Format::Json => serde_json::to_string_pretty(view).map_err(unprintable),
        Format::Yaml => {
            serde_yaml::to_string(view).map(|text| text.trim_end().to_owned()).map_err(unprintable)
        }
    }
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    fn code(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A heading.
    pub fn heading(self, text: &str) -> String {
        self.code("1", text)
    }

    /// Something that is as it should be.
    pub fn good(self, text: &str) -> String {
        self.code("32", text)
    }

    /// Something that wants a look.
    pub fn bad(self, text: &str) -> String {
        self.code("31", text)
    }

    /// Something beside the point.
    pub fn faint(self, text: &str) -> String {
        self.code("2", text)
    }
}

/// One cell of a [`Table`].
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
}

#[derive(Debug, Clone, Copy)]
enum Tone {
    Plain,
    Good,
    Bad,
}

impl Cell {
    /// Green or red.
    pub fn judged(good: bool, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: if good { Tone::Good } else { Tone::Bad } }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), tone: Tone::Plain }
    }
}

/// Columns without lines, three blanks apart, as kubectl prints them.
#[derive(Debug, Default)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these column names.
    pub fn new(head: impl IntoIterator<Item = &'static str>) -> Self {
        Self { head: head.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row; it must have as many cells as the head.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<Cell> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.head.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// The text; without a newline at the end.
    pub fn text(&self, paint: Paint) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].text.chars().count());
            cells.chain([self.head[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: Vec<(&str, Tone, bool)>| {
            let mut line = String::new();
            let last = cells.len().saturating_sub(1);
            for (column, (text, tone, heading)) in cells.into_iter().enumerate() {
                line.push_str(&match (heading, tone) {
                    (true, _) => paint.heading(text),
                    (false, Tone::Plain) => text.to_owned(),
                    (false, Tone::Good) => paint.good(text),
                    (false, Tone::Bad) => paint.bad(text),
                });
                if column < last {
                    line.push_str(&" ".repeat(widths[column] - text.chars().count() + 3));
                }
            }
            line.trim_end().to_owned()
        };
        let head = line(self.head.iter().map(|name| (*name, Tone::Plain, true)).collect());
        let rows = self
            .rows
            .iter()
            .map(|row| line(row.iter().map(|cell| (cell.text.as_str(), cell.tone, false)).collect()));
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
    }
}

/// Shorthand for a row of mixed cells.
#[macro_export]
macro_rules! row {
    ($($cell:expr),* $(,)?) => { [$($crate::output::Cell::from($cell)),*] };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "N"]);
        table.row(row!["a-long-name", 1]);
        table.row(row!["b", ""]);
        assert_eq!(table.text(Paint(false)), "NAME          N\na-long-name   1\nb");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new(["STATE", "N"]);
        table.row([Cell::judged(false, "no"), Cell::from(1)]);
        assert_eq!(
            table.text(Paint(true)),
            "\x1b[1mSTATE\x1b[0m   \x1b[1mN\x1b[0m\n\x1b[31mno\x1b[0m      1"
        );
    }
}
