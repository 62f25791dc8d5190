//! Tables that fit the terminal.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

/// A table with a header line; long cells are broken if the table would be wider than `width`.
///
/// A first column of names and ids is never broken, so that it can be copied.
pub(super) fn table<const N: usize>(
    headers: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    width: Option<u16>,
) -> String {
    let mut table = plain(width);
    table.set_header(headers.map(str::to_uppercase));
    table.add_rows(rows);
    trimmed(&mut table)
}

/// Names and values, aligned.
pub(super) fn values(values: &[(&str, String)]) -> String {
    let mut table = plain(None);
    table.add_rows(values.iter().map(|(name, value)| [(*name).to_owned(), value.clone()]));
    trimmed(&mut table)
}

fn plain(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

/// The text without spaces at line ends.
fn trimmed(table: &mut Table) -> String {
    if let Some(first) = table.column_mut(0) {
        first.set_constraint(ColumnConstraint::ContentWidth);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [[&str; 2]; 2] = [["alice", "clerk, editor of the northern region"], ["Ωmega", ""]];

    fn rows() -> impl Iterator<Item = [String; 2]> {
        ROWS.into_iter().map(|row| row.map(str::to_owned))
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_spaces() {
        assert_eq!(
            table(["name", "roles"], rows(), None),
            "NAME   ROLES\nalice  clerk, editor of the northern region\nΩmega"
        );
    }

    #[test]
    fn long_cells_are_broken_at_the_width_of_the_terminal() {
        let text = table(["name", "roles"], rows(), Some(30));
        assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
        assert_eq!(text.lines().next(), Some("NAME   ROLES"));
        assert!(text.contains("\nalice  clerk"), "{text}");
    }

    #[test]
    fn first_column_is_never_broken() {
        let kid = "poMy2mjMdC1bMraoowUDX-AqZXJC_ILr_n4GFdOS9Yc";
        let text = table(["kid", "phase"], [[kid.to_owned(), "active".to_owned()]].into_iter(), Some(20));
        assert!(text.contains(kid), "{text}");
    }

    #[test]
    fn values_are_aligned_below_each_other() {
        let named = [("id", "7".to_owned()), ("user name", "alice".to_owned())];
        assert_eq!(values(&named), "id         7\nuser name  alice");
    }
}
