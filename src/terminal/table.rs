//! Tables. Pure.

use super::words::hang;

/// The least room in characters that the words of the last column are given beside the others: with less they stand below.
const BESIDE: usize = 36;
/// How far words that stand below their row are indented.
const BELOW: &str = "    ";

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

/// [`columns`] on a terminal that is `width` characters wide; `None` where there is no edge. The last column holds words: they
/// are broken between words beside the other columns, or below their row where there is too little room for that. Where even
/// the others have no room, those that are `spare`, counted from zero, are left out, the first one first: what they hold must
/// be shown elsewhere. Where that is not enough either, a row is a sentence, its cells with commas between them.
pub fn fitted<Cell: AsRef<str>>(
    rows: &[Vec<Cell>],
    indent: &str,
    gap: usize,
    spare: &[usize],
    width: Option<usize>,
) -> String {
    let whole = columns(rows, indent, gap);
    let rows: Vec<Vec<&str>> = rows.iter().map(|row| row.iter().map(AsRef::as_ref).collect()).collect();
    let Some(width) = width.filter(|width| whole.lines().any(|line| line.chars().count() > *width)) else {
        return whole;
    };
    let last = rows.iter().map(Vec::len).max().unwrap_or(1).saturating_sub(1);
    // With the gap behind the last of them.
    let room = |kept: &[usize], gap: usize| -> usize {
        let of = |column: &usize| {
            let cells = rows.iter().filter_map(|row| row.get(*column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + gap
        };
        indent.chars().count() + kept.iter().map(of).sum::<usize>()
    };
    let mut kept: Vec<usize> = (0..last).collect();
    // Air goes before anything that is said.
    let gap = if room(&kept, gap) + BESIDE > width { gap.min(2) } else { gap };
    for column in spare {
        if room(&kept, gap) > width + gap {
            kept.retain(|known| known != column);
        }
    }
    let fixed = room(&kept, gap);
    let below = format!("{indent}{BELOW}");
    if fixed > width + gap {
        let sentence = |row: &Vec<&str>| {
            let cells: Vec<&str> = row.iter().copied().filter(|cell| !cell.is_empty()).collect();
            hang(indent, &below, &cells.join(", "), Some(width))
        };
        return rows.iter().map(sentence).collect();
    }
    let others = |row: &Vec<&str>| -> Vec<String> {
        kept.iter().map(|column| row.get(*column).copied().unwrap_or_default().to_owned()).collect()
    };
    let others: Vec<Vec<String>> = rows.iter().map(others).collect();
    let mut text = String::new();
    for (line, row) in columns(&others, indent, gap).lines().zip(&rows) {
        let words = row.get(last).copied().unwrap_or_default();
        if fixed + BESIDE <= width {
            let first = format!("{line}{}", " ".repeat(fixed.saturating_sub(line.chars().count())));
            text.push_str(&hang(&first, &" ".repeat(fixed), words, Some(width)));
            continue;
        }
        text.push_str(line);
        text.push('\n');
        // Nothing to say is no reason for a line.
        if !matches!(words, "" | "-") {
            text.push_str(&hang(&below, &below, words, Some(width)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_where_words_do() {
        let rows = [vec!["NAME", "WHY"], vec!["überweisung", ""], vec!["a"]];
        assert_eq!(columns(&rows, "  ", 2), "  NAME         WHY\n  überweisung\n  a\n");
        assert_eq!(columns::<&str>(&[], "", 2), "");
    }

    fn rows() -> Vec<Vec<&'static str>> {
        vec![
            vec!["NAME", "STATE", "RELEASE", "WHY"],
            vec![
                "transaction",
                "Degraded",
                "transaction:1.5",
                "1 of 2 pods are Ready: the image cannot be pulled",
            ],
            vec!["ledger", "Serving", "ledger:2", "-"],
        ]
    }

    #[test]
    fn faults_6_15_words_are_broken_beside_the_columns_or_stand_below() {
        let whole = columns(&rows(), "", 3);
        assert_eq!(fitted(&rows(), "", 3, &[], None), whole);
        assert_eq!(fitted(&rows(), "", 3, &[], Some(120)), whole);
        expect![[r#"
            NAME          STATE      RELEASE           WHY
            transaction   Degraded   transaction:1.5   1 of 2 pods are Ready: the image
                                                       cannot be pulled
            ledger        Serving    ledger:2          -
        "#]]
        .assert_eq(&fitted(&rows(), "", 3, &[], Some(80)));
        expect![[r#"
            NAME         STATE     RELEASE
                WHY
            transaction  Degraded  transaction:1.5
                1 of 2 pods are Ready: the image cannot be
                pulled
            ledger       Serving   ledger:2
        "#]]
        .assert_eq(&fitted(&rows(), "", 3, &[2], Some(50)));
    }

    #[test]
    fn faults_6_15_what_is_spare_goes_first_and_nothing_else_is_lost() {
        expect![[r#"
            NAME         STATE
                WHY
            transaction  Degraded
                1 of 2 pods are Ready: the
                image cannot be pulled
            ledger       Serving
        "#]]
        .assert_eq(&fitted(&rows(), "", 3, &[2], Some(30)));
        expect![[r#"
            NAME, STATE, RELEASE, WHY
            transaction, Degraded,
                transaction:1.5, 1 of 2 pods
                are Ready: the image cannot be
                pulled
            ledger, Serving, ledger:2, -
        "#]]
        .assert_eq(&fitted(&rows(), "", 3, &[], Some(34)));
        // The longest word stands behind an indent of four.
        for width in 20..120 {
            let text = fitted(&rows(), "", 3, &[], Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            for word in rows().concat().join(" ").split(' ').filter(|word| *word != "-") {
                assert!(text.contains(word), "{word} at {width}:\n{text}");
            }
        }
    }
}
