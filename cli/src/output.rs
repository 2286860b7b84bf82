//! What goes to stdout (results) and to stderr (everything else).

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::Context;

use crate::error::{OutputClosed, Result};
use crate::wording::with_flags;
pub(crate) use tallow::report::numbers::{count as thousands, rate};

/// Writes a result and a newline to stdout.
///
/// # Errors
/// [`OutputClosed`] where nobody reads any more.
pub fn stdout(text: &str) -> Result {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.trim_end().as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        result => result.context("cannot write to standard output"),
    }
}

/// Writes a line to stderr, with flags in place of the settings that the library names. A closed stderr is not worth failing for.
pub fn stderr_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", with_flags(text));
}

/// How a column of a table is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of text under a header, in columns as wide as their widest cell.
pub struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new<const N: usize>(columns: [(&str, Align); N]) -> Self {
        let align = columns.iter().map(|(_, align)| *align).collect();
        Self { align, rows: vec![columns.iter().map(|(name, _)| name.to_string()).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), align) in row.iter().zip(&widths).zip(&self.align) {
                match align {
                    Align::Left => line.push_str(&format!("{cell:<width$}  ")),
                    Align::Right => line.push_str(&format!("{cell:>width$}  ")),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Bytes in the unit that suits them, powers of 1000: `2.17 GB`.
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        _ if count >= 1e9 => format!("{:.2} GB", count / 1e9),
        _ if count >= 1e6 => format!("{:.1} MB", count / 1e6),
        _ if count >= 1e3 => format!("{:.1} kB", count / 1e3),
        _ => format!("{count} B"),
    }
}

/// Seconds as a person says them: `4.2 s`, `3 min 05 s`, `1 h 02 min`.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 59.95 => format!("{seconds:.1} s"),
        0..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// So many of something, with its unit: `1 epoch`, `8 epochs`.
pub fn counted(count: usize, unit: &str) -> String {
    format!("{} {unit}{}", thousands(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new([("name", Align::Left), ("n", Align::Right)]);
        table.row(["a".into(), "1,000".into()]);
        assert_eq!(table.to_string(), "name      n\na     1,000\n");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(bytes(2_170_000_000), "2.17 GB");
        assert_eq!(seconds(185.2), "3 min 05 s");
        assert_eq!(seconds(59.94), "59.9 s");
    }
}
