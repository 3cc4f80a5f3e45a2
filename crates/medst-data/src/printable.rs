//! Texts of others (names of files, cells of tables) on a terminal, in a log or in a table for
//! people.

use std::borrow::Cow;
use std::fmt::Write;

/// A text without characters that control a terminal: each is replaced by its escape, such as
/// `\u{1b}`. Line breaks are kept.
pub fn printable(text: &str) -> Cow<'_, str> {
    replaced(text, |letter| letter != '\n' && steers(letter))
}

/// Like [`printable`], on one line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    replaced(text, steers)
}

/// Like [`printable`], with every line but the first indented, so that a name with a line break
/// cannot pass for a separate message.
pub fn message(text: &str) -> String {
    printable(text).replace('\n', "\n  ")
}

/// Control characters, separators of lines, and those that change the direction of writing.
fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn replaced(text: &str, is_wrong: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_wrong) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match is_wrong(letter) {
            // Writing to a string cannot fail.
            true => _ = write!(plain, "{}", letter.escape_default()),
            false => plain.push(letter),
        }
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_steers_a_terminal_is_shown_as_its_escape() {
        assert_eq!(printable("a\u{1b}]0;x\u{7}\u{9b}\r\n\u{202e}é"), "a\\u{1b}]0;x\\u{7}\\u{9b}\\r\n\\u{202e}é");
        assert_eq!((one_line("a\nb"), message("a\nmedst: b")), ("a\\nb".into(), "a\n  medst: b".into()));
        assert!(matches!(printable("Größe 3 × 4…"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn no_text_steers(text in any::<String>()) {
            prop_assert!(!one_line(&text).chars().any(char::is_control));
            prop_assert!(!printable(&text).chars().any(|letter| letter.is_control() && letter != '\n'));
        }
    }
}
