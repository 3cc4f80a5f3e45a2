//! The text of a CSV file as saved by any common program.
//!
//! * gzip: its first two bytes
//! * UTF-16 (Excel's "Unicode text"): its byte-order mark; without one it is refused by name
//! * UTF-8 with a byte-order mark: the mark
//! * Excel's line `sep=;`: the first line; it names the separator and is not data
//! * commas, semicolons, tabs, bars: whichever separates most cells of the header, quoted cells not
//!   counted

use std::io::{Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::{Error, Result, input};

/// How much of a file is looked at to recognise its encoding and separator.
const HEAD: u64 = 64 << 10;
/// Most bytes without a line's end: reports fill a few thousand, and readers keep a whole line in
/// memory.
const LONGEST_LINE: usize = 64 << 20;

/// A CSV file: UTF-8 text (or bytes of another 8-bit encoding), and the byte between its cells.
pub struct Delimited {
    pub text: Box<dyn Read>,
    pub separator: u8,
    /// The line of the file that the header is in, counted from 1.
    pub header_line: u64,
}

/// Opens a table; the text begins with the header.
///
/// # Errors
/// A file that cannot be read, that is a workbook and not a CSV file, or whose encoding is not
/// supported.
pub fn open(path: &Path) -> Result<Delimited> {
    let (mut head, rest) = decoded(path)?;
    let named = separator_line(&head);
    let separator = match named {
        Some((separator, length)) => {
            head.drain(..length);
            separator
        }
        None => separator_of(&head),
    };
    // Readers of CSV skip empty lines.
    let empty = head.split_inclusive(|&byte| byte == b'\n').take_while(|line| line.trim_ascii().is_empty()).count();
    let header_line = 1 + u64::from(named.is_some()) + empty as u64;
    Ok(Delimited { text: Box::new(Cursor::new(head).chain(rest)), separator, header_line })
}

/// Opens a text of any form, unpacked and as UTF-8.
///
/// # Errors
/// As [`open`].
pub fn open_text(path: &Path) -> Result<Box<dyn Read>> {
    let (head, rest) = decoded(path)?;
    Ok(Box::new(Cursor::new(head).chain(rest)))
}

/// The beginning of a file and what follows it, unpacked and without byte-order mark.
fn decoded(path: &Path) -> Result<(Vec<u8>, Box<dyn Read>)> {
    let mut start = Vec::with_capacity(2);
    let mut file = input::open(path).map_err(Error::io(path))?;
    file.by_ref().take(2).read_to_end(&mut start).map_err(Error::io(path))?;
    let whole = Cursor::new(start.clone()).chain(file);
    let unpacked: Box<dyn Read> =
        if start == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    let mut source: Box<dyn Read> = Box::new(Lines { text: unpacked, since: 0 });
    let mut head = Vec::new();
    source.by_ref().take(HEAD).read_to_end(&mut head).map_err(|error| truncated(path, error))?;
    let fail = |message: &str| Err(Error::Table { path: path.to_path_buf(), message: message.into() });
    match head.as_slice() {
        [0xef, 0xbb, 0xbf, ..] => _ = head.drain(..3),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return fail("is UTF-32; save it as UTF-8"),
        [a @ (0xff | 0xfe), b @ (0xff | 0xfe), ..] if a != b => {
            let little = *a == 0xff;
            source.read_to_end(&mut head).map_err(|error| truncated(path, error))?;
            return Ok((from_utf16(&head[2..], little), Box::new(std::io::empty())));
        }
        [b'P', b'K', 3, 4, ..] | [0xd0, 0xcf, 0x11, 0xe0, ..] => {
            return fail("is a workbook (or another archive), not a table; save it as CSV (UTF-8)");
        }
        head if head.iter().take(64).any(|&byte| byte == 0) => {
            return fail("is not UTF-8 text (it may be UTF-16 without a byte-order mark); save it as UTF-8");
        }
        _ => {}
    }
    Ok((head, source))
}

/// A text whose lines must end: a sparse or packed file of terabytes is refused before it fills the
/// memory.
struct Lines {
    text: Box<dyn Read>,
    /// Bytes since the last line's end.
    since: usize,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.text.read(buffer)?;
        let tail = buffer[..count].iter().rposition(|&byte| byte == b'\n');
        self.since = tail.map_or(self.since + count, |index| count - index - 1);
        if self.since > LONGEST_LINE {
            let message = format!("has a line of more than {LONGEST_LINE} bytes, so it is probably not a table");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

fn truncated(path: &Path, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Error::Table { path: path.to_path_buf(), message: "the file is truncated".into() }
        }
        _ => Error::io(path)(error),
    }
}

/// Unpaired halves and a cut last unit become replacement characters.
fn from_utf16(bytes: &[u8], little: bool) -> Vec<u8> {
    let (pairs, cut) = bytes.as_chunks::<2>();
    let unit = |pair: &[u8; 2]| if little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) };
    let units = pairs.iter().map(unit).chain((!cut.is_empty()).then_some(0xd800));
    let text: String = char::decode_utf16(units).map(|found| found.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.into_bytes()
}

/// The separator that Excel's first line names, and the length of that line.
fn separator_line(head: &[u8]) -> Option<(u8, usize)> {
    let end = head.iter().position(|&byte| byte == b'\n')?;
    let line = head[..end].trim_ascii_end();
    // A tab is a separator, not a blank around the line.
    let line = if line.eq_ignore_ascii_case(b"sep=") { &head[..end.min(5)] } else { line };
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    match line {
        [s, e, p, b'=', separator] if [*s, *e, *p].eq_ignore_ascii_case(b"sep") => Some((*separator, end + 1)),
        _ => None,
    }
}

/// The separator that splits the first line into the most cells; a comma if none does.
fn separator_of(head: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    let mut quoted = false;
    for &byte in head {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            _ if quoted => {}
            _ => counts.iter_mut().filter(|(separator, _)| *separator == byte).for_each(|(_, count)| *count += 1),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    counts.iter().find(|(_, count)| *count == most).map_or(b',', |(separator, _)| *separator)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: &[u8]) -> Result<(String, char)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut found = open(file.path())?;
        let mut text = String::new();
        found.text.read_to_string(&mut text).unwrap();
        Ok((text, char::from(found.separator)))
    }

    fn utf16(text: &str, little: bool) -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() }).collect()
    }

    #[test]
    fn every_way_of_saving_a_table_gives_the_same_text() {
        let text = "a,b\n1,Größe\n";
        let mut gzipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzipped.write_all(&utf16(text, true)).unwrap();
        let marked = ["\u{feff}", text].concat().into_bytes();
        let forms = [marked, utf16(text, true), utf16(text, false), gzipped.finish().unwrap()];
        for bytes in forms {
            assert_eq!(read(&bytes).unwrap(), (text.to_string(), ','));
        }
    }

    #[test]
    fn separators_are_recognised_outside_quotes_or_named_by_excel() {
        for (text, separator, rest) in [
            ("a;b;c\n1,5;2;3\n", ';', "a;b;c\n1,5;2;3\n"),
            ("a\tb\n", '\t', "a\tb\n"),
            ("\"a;b;c\",d\n", ',', "\"a;b;c\",d\n"),
            ("alone\n", ',', "alone\n"),
            ("sep=,\na;b,c\n", ',', "a;b,c\n"),
            ("sep=;\r\na;b\r\n", ';', "a;b\r\n"),
            ("\"sep=|\"\na|b\n", '|', "a|b\n"),
            ("sep=\t\na\tb\n", '\t', "a\tb\n"),
            ("separate,b\n", ',', "separate,b\n"),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap(), (rest.to_string(), separator), "{text}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_and_not_kept() {
        for start in [b"some,table\n".repeat(9), b"\xff\xfea\0,\0b\0\n\0".to_vec()] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&start).unwrap();
            // More than a hundredth is stored, so that the file is not refused as a sparse one.
            file.write_all(&vec![b'a'; 4 << 20]).unwrap();
            file.as_file().set_len(1 << 28).unwrap();
            let read = open(file.path()).and_then(|mut found| {
                let copied = std::io::copy(&mut found.text, &mut std::io::sink());
                copied.map_err(Error::io(file.path()))
            });
            let error = read.unwrap_err().to_string();
            assert!(error.contains("has a line of more than"), "{error}");
        }
    }

    #[test]
    fn what_is_no_table_of_text_is_named() {
        let unmarked: Vec<u8> = "a,b\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, words) in [
            (&b"PK\x03\x04rest"[..], "workbook"),
            (b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
            (&unmarked, "UTF-16 without a byte-order mark"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
