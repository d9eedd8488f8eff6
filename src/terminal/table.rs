//! Tables. Pure.

/// A line for each row, every one ended: columns of equal width, `gap` spaces apart, behind an `indent`. The last cell of
/// a row is not filled up.
pub fn columns<Cell: AsRef<str>>(rows: &[Vec<Cell>], indent: &str, gap: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.as_ref().chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        for (cell, width) in row.iter().zip(&widths) {
            let cell = cell.as_ref();
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_where_words_do() {
        let rows = [vec!["NAME", "WHY"], vec!["überweisung", ""], vec!["a"]];
        assert_eq!(columns(&rows, "  ", 2), "  NAME         WHY\n  überweisung\n  a\n");
        assert_eq!(columns::<&str>(&[], "", 2), "");
    }
}
