//! Cells of tables, and texts that are written like them.

/// `None` for cells without a value.
pub fn meaning(cell: &str) -> Option<&str> {
    let cell = cell.trim();
    let nothing = ["", "nan", "null", "none", "n/a", "<na>"].iter().any(|nothing| cell.eq_ignore_ascii_case(nothing));
    (!nothing).then_some(cell)
}
