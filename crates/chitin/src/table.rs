//! Aligned columns. The last one takes what is left of the line, and is cut off there on a terminal; in a pipe nothing
//! is ever cut.

use crate::style::{Colour, Style};
use crate::text;

/// One field of a row.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// Text, escaped here so that no caller forgets to.
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text::escape(text), colour: None }
    }

    /// The same in a colour.
    pub(crate) fn coloured(text: &str, colour: Option<Colour>) -> Self {
        Self { colour, ..Self::new(text) }
    }
}

/// Between two columns.
const GAP: usize = 2;
/// The last column is not cut below this, however narrow the terminal.
const MIN_LAST_WIDTH: usize = 10;

/// The lines of the table, the heading first. `width` is the terminal's, if there is one.
pub(crate) fn render(heading: &[&str], rows: &[Vec<Cell>], width: Option<usize>, style: Style) -> String {
    let columns = heading.len();
    let mut widths: Vec<usize> = heading.iter().map(|title| title.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let before_last: usize = widths.iter().take(columns.saturating_sub(1)).map(|width| width + GAP).sum();
    let last = width.map(|width| width.saturating_sub(before_last).max(MIN_LAST_WIDTH));

    let titles: Vec<Cell> = heading.iter().map(|title| Cell::coloured(title, Some(Colour::Bold))).collect();
    let mut lines = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column + 1 == columns {
                let text = last.map_or_else(|| cell.text.clone(), |last| text::truncate(&cell.text, last));
                lines.push_str(&style.paint(cell.colour, &text));
            } else {
                lines.push_str(&style.paint(cell.colour, &cell.text));
                lines.extend(std::iter::repeat_n(' ', width - cell.text.chars().count() + GAP));
            }
        }
        let end = lines.trim_end_matches(' ').len();
        lines.truncate(end);
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![
                Cell::new("0198aaaa"),
                Cell::coloured("running", Some(Colour::Blue)),
                Cell::new("tar czf a.tgz src"),
            ],
            vec![Cell::new("0198bb"), Cell::new("dead (poison)"), Cell::new("a\x1bb")],
        ]
    }

    #[test]
    fn columns_are_aligned_and_escaped() {
        assert_eq!(
            render(&["ID", "STATE", "COMMAND"], &rows(), None, Style::Plain),
            "ID        STATE          COMMAND\n\
             0198aaaa  running        tar czf a.tgz src\n\
             0198bb    dead (poison)  a\\u{1b}b\n"
        );
    }

    #[test]
    fn only_the_last_column_is_cut_and_only_on_a_terminal() {
        let table = render(&["ID", "STATE", "COMMAND"], &rows(), Some(36), Style::Plain);
        assert!(table.contains("running        tar czf a.…\n"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 36), "{table}");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let table = render(&["ID", "STATE", "COMMAND"], &rows(), None, Style::Coloured);
        assert!(table.contains("\x1b[34mrunning\x1b[0m        tar"), "{table:?}");
    }
}
