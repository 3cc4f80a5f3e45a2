//! WordPiece with the BERT cased vocabulary, as Hugging Face's `BertTokenizer(do_lower_case=False)`
//! does it.
//!
//! 1. Cleaning: control characters are removed, every white space is a space, CJK characters are
//!    separate words.
//! 2. Words: cut at white space and around each punctuation mark (ASCII symbols such as `$` count
//!    as such).
//! 3. Pieces: of each word the longest one in the vocabulary, again and again; a word that cannot
//!    be cut so, or has more than 100 characters, is `[UNK]` as a whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;

use crate::files::sha256_of;
use crate::{Error, Result, input};

/// The 28,996 entries of BERT's cased vocabulary (Apache-2.0, see THIRD_PARTY.md), which
/// Bio_ClinicalBERT uses too.
const BERT_CASED: &[u8] = include_bytes!("../../assets/bert-base-cased-vocab.txt");

/// Longer words are `[UNK]`, as in BERT.
const LONGEST_WORD: usize = 100;
/// Prefix of pieces inside a word.
const CONTINUATION: &str = "##";

/// Cuts cleaned report text into word pieces.
#[derive(Clone)]
pub struct WordPiece {
    pieces: Vec<String>,
    /// Pieces that begin a word, and without their prefix those that go on with one.
    first: HashMap<String, u32>,
    next: HashMap<String, u32>,
    unknown: u32,
    classifier: u32,
    separator: u32,
    checksum: String,
}

impl WordPiece {
    /// The built-in cased vocabulary.
    pub fn bert_cased() -> WordPiece {
        Self::from_vocabulary(BERT_CASED, Path::new("(built-in)")).expect("the built-in vocabulary is valid")
    }

    /// A vocabulary file: `vocab.txt`, one piece per line, whose number is the id; or the
    /// `tokenizer.json` of a WordPiece tokenizer, recognised by its content.
    ///
    /// # Errors
    /// A tokenizer of another kind; unreadable, not UTF-8, an empty or repeated line, or no
    /// `[PAD]`, `[UNK]`, `[CLS]` or `[SEP]`: file and line are named.
    pub fn from_file(path: &Path) -> Result<WordPiece> {
        let bytes = input::read(path, input::TEXT).map_err(Error::io(path))?;
        if bytes.trim_ascii_start().starts_with(b"{") {
            return Self::from_vocabulary(&lines_of_tokenizer(&bytes, path)?, path);
        }
        Self::from_vocabulary(&bytes, path)
    }

    /// Like [`WordPiece::from_file`], for the text of a vocabulary file. Errors refer to it as
    /// `path`.
    ///
    /// # Errors
    /// As [`WordPiece::from_file`].
    pub fn from_text(text: &str, path: &Path) -> Result<WordPiece> {
        Self::from_vocabulary(text.as_bytes(), path)
    }

    fn from_vocabulary(bytes: &[u8], path: &Path) -> Result<WordPiece> {
        let fail = |message: String| Error::Vocabulary { path: PathBuf::from(path), message };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
            fail(format!("line {line} is not UTF-8"))
        })?;
        let pieces: Vec<String> = text.lines().map(str::to_string).collect();
        let mut seen = HashSet::new();
        for (number, piece) in pieces.iter().enumerate() {
            if piece.is_empty() {
                return Err(fail(format!("line {} is empty", number + 1)));
            }
            if !seen.insert(piece) {
                return Err(fail(format!("line {} repeats the piece `{piece}`", number + 1)));
            }
        }
        let id = |wanted: &str| {
            let index = pieces.iter().position(|piece| piece == wanted);
            index.map(|id| id as u32).ok_or_else(|| fail(format!("has no piece `{wanted}`")))
        };
        let (classifier, separator) = (id("[CLS]")?, id("[SEP]")?);
        if id("[PAD]")? != 0 {
            return Err(fail("`[PAD]` must be the first line: batches are padded with 0".into()));
        }
        let unknown = id("[UNK]")?;
        let (mut first, mut next) = (HashMap::new(), HashMap::new());
        for (piece, id) in pieces.iter().zip(0u32..) {
            match piece.strip_prefix(CONTINUATION) {
                Some(rest) if !rest.is_empty() => next.insert(rest.to_string(), id),
                _ => None,
            };
            first.insert(piece.clone(), id);
        }
        Ok(WordPiece { pieces, first, next, unknown, classifier, separator, checksum: sha256_of(bytes) })
    }

    /// `[CLS]`, the pieces of `text`, `[SEP]`: at most `max_tokens` ids, not padded. Longer texts
    /// lose their end and keep `[SEP]`.
    pub fn encode(&self, text: &str, max_tokens: usize) -> Vec<u32> {
        let room = max_tokens.saturating_sub(2);
        let mut ids = vec![self.classifier];
        for word in words(text) {
            if ids.len() > room {
                break;
            }
            self.cut(&word, &mut ids);
        }
        ids.truncate(room + 1);
        ids.push(self.separator);
        ids
    }

    /// Appends the pieces of a word.
    fn cut(&self, word: &str, ids: &mut Vec<u32>) {
        let begun = ids.len();
        let mut rest = word;
        if word.chars().count() > LONGEST_WORD {
            return ids.push(self.unknown);
        }
        while !rest.is_empty() {
            let pieces = if ids.len() == begun { &self.first } else { &self.next };
            let ends = rest.char_indices().map(|(start, letter)| start + letter.len_utf8()).rev();
            let found = ends.into_iter().find_map(|end| Some((end, *pieces.get(&rest[..end])?)));
            let Some((end, id)) = found else {
                ids.truncate(begun);
                return ids.push(self.unknown);
            };
            ids.push(id);
            rest = &rest[end..];
        }
    }

    /// Whether a piece (`##…`) belongs to the word before it.
    pub fn is_continuation(&self, id: u32) -> bool {
        self.pieces.get(id as usize).is_some_and(|piece| piece.starts_with(CONTINUATION))
    }

    /// The id of `[CLS]`.
    pub fn classifier(&self) -> u32 {
        self.classifier
    }

    /// The id of `[SEP]`.
    pub fn separator(&self) -> u32 {
        self.separator
    }

    /// The piece of an id.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize).map(String::as_str)
    }

    /// Number of pieces.
    pub fn size(&self) -> usize {
        self.pieces.len()
    }

    /// SHA-256 of the vocabulary file, in hexadecimal.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }
}

/// The words of a text; punctuation marks and CJK characters are separate words.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in text.chars().filter(|&letter| !is_removed(letter)) {
        if letter.is_whitespace() {
            words.push(String::new());
        } else if is_punctuation(letter) || is_cjk(letter) {
            words.extend([letter.to_string(), String::new()]);
        } else if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Control and format characters, unassigned and private ones, and the replacement character.
fn is_removed(letter: char) -> bool {
    static OTHER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{C}").expect("a class of Unicode"));
    match letter {
        '\t' | '\n' | '\r' => false,
        '\u{fffd}' => true,
        letter if letter.is_ascii() => letter.is_ascii_control(),
        letter => OTHER.is_match(letter.encode_utf8(&mut [0; 4])),
    }
}

fn is_punctuation(letter: char) -> bool {
    static PUNCTUATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\p{P}").expect("a class of Unicode"));
    letter.is_ascii_punctuation() || (!letter.is_ascii() && PUNCTUATION.is_match(letter.encode_utf8(&mut [0; 4])))
}

/// Ideographs, whose words nothing separates; the blocks that BERT names.
fn is_cjk(letter: char) -> bool {
    matches!(u32::from(letter),
        0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x2_a6df | 0x2_a700..=0x2_b81f
        | 0x2_b920..=0x2_ceaf | 0x2_f800..=0x2_fa1f)
}

/// The parts of a `tokenizer.json` that are used.
#[derive(Deserialize)]
struct TokenizerFile {
    model: TokenizerModel,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct TokenizerModel {
    r#type: Option<String>,
    /// A list where the kind is Unigram.
    vocab: serde_json::Value,
    #[serde(default = "hashes")]
    continuing_subword_prefix: String,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

fn hashes() -> String {
    "##".into()
}

/// The `vocab.txt` of a `tokenizer.json`.
fn lines_of_tokenizer(bytes: &[u8], path: &Path) -> Result<Vec<u8>> {
    let fail = |message: String| Error::Vocabulary { path: PathBuf::from(path), message };
    let file: TokenizerFile =
        serde_json::from_slice(bytes).map_err(|error| fail(format!("not a tokenizer.json: {error}")))?;
    let kind = file.model.r#type.as_deref().unwrap_or("WordPiece");
    if kind != "WordPiece" || file.model.continuing_subword_prefix != "##" {
        let prefix = &file.model.continuing_subword_prefix;
        return Err(fail(format!(
            "contains a {kind} tokenizer (continuing pieces begin with `{prefix}`); expected BERT's WordPiece with `##`"
        )));
    }
    let vocab: HashMap<String, u32> =
        serde_json::from_value(file.model.vocab).map_err(|error| fail(format!("model.vocab: {error}")))?;
    let added = file.added_tokens.into_iter().map(|token| (token.content, token.id));
    let mut pieces: BTreeMap<u32, String> = BTreeMap::new();
    for (piece, id) in vocab.into_iter().chain(added) {
        match pieces.insert(id, piece.clone()) {
            Some(other) if other != piece => {
                return Err(fail(format!("`{other}` and `{piece}` have the same ID, {id}")));
            }
            _ => {}
        }
    }
    if let Some(gap) = pieces.keys().enumerate().find_map(|(index, &id)| (index as u32 != id).then_some(index)) {
        return Err(fail(format!("has no piece with ID {gap}")));
    }
    Ok(pieces.into_values().flat_map(|piece| (piece + "\n").into_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_vocabulary_is_the_published_one() {
        let pieces = WordPiece::bert_cased();
        assert_eq!(pieces.size(), 28996);
        assert!(pieces.checksum().starts_with("eeaa9875b23b04b4"));
    }

    #[test]
    fn long_reports_are_cut_and_keep_their_separator() {
        let pieces = WordPiece::bert_cased();
        let ids = pieces.encode(&"pneumothorax ".repeat(200), 112);
        assert_eq!(ids.len(), 112);
        assert_eq!(ids.last(), Some(&pieces.separator()));
        assert!(pieces.is_continuation(ids[2]) && !pieces.is_continuation(ids[1]));
    }

    /// The output of Hugging Face's tokenizers 0.23 for unusual text.
    #[test]
    fn odd_text_is_cut_as_the_published_tokenizer_cuts_it() {
        let pieces = WordPiece::bert_cased();
        let rows: Vec<(String, Vec<u32>)> = serde_json::from_str(include_str!("wordpiece_odd.json")).unwrap();
        assert!(rows.len() > 200);
        for (text, expected) in rows {
            assert_eq!(pieces.encode(&text, 512), expected, "{text:?}");
        }
    }

    #[test]
    fn a_tokenizer_json_is_its_vocabulary() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let lines = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nlung\n##s\n";
        std::fs::write(at("vocab.txt"), lines).unwrap();
        let vocab = r###"{"lung": 4, "[PAD]": 0, "##s": 5, "[UNK]": 1, "[CLS]": 2}"###;
        let json = |kind: &str, vocab: &str| {
            let added = r#"[{"id": 3, "content": "[SEP]", "special": true}, {"id": 0, "content": "[PAD]"}]"#;
            let text = format!(
                r#"{{"version": "1.0", "added_tokens": {added}, "model": {{"type": "{kind}", "vocab": {vocab}}}}}"#
            );
            std::fs::write(at("tokenizer.json"), text).unwrap();
            WordPiece::from_file(&at("tokenizer.json"))
        };
        let (plain, read) = (WordPiece::from_file(&at("vocab.txt")).unwrap(), json("WordPiece", vocab).unwrap());
        assert_eq!((read.checksum(), read.size()), (plain.checksum(), 6));
        assert_eq!(read.encode("lungs", 9), plain.encode("lungs", 9));
        for (kind, vocab, words) in [
            ("BPE", vocab, "BPE tokenizer"),
            ("Unigram", "[[\"a\", 0.5]]", "Unigram tokenizer"),
            ("WordPiece", r#"{"[PAD]": 0, "[UNK]": 1, "[CLS]": 7}"#, "no piece with ID 2"),
            ("WordPiece", r#"{"[PAD]": 0, "x": 3}"#, "have the same ID, 3"),
        ] {
            let error = json(kind, vocab).err().unwrap().to_string();
            assert!(error.contains(words) && error.contains("tokenizer.json"), "{error}");
        }
    }

    #[test]
    fn faulty_vocabularies_are_refused_with_their_line() {
        for (text, expected) in [
            (&b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nlung\nlung\n"[..], "line 6 repeats"),
            (b"[PAD]\n[UNK]\n\n", "line 3 is empty"),
            (b"[PAD]\n[UNK]\n[CLS]\nlung\n", "no piece `[SEP]`"),
            (b"[PAD]\n\xff\xfe\n", "line 2 is not UTF-8"),
            (b"[UNK]\n[PAD]\n[CLS]\n[SEP]\n", "must be the first line"),
        ] {
            let error = WordPiece::from_vocabulary(text, Path::new("v.txt")).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{error:?}");
        }
    }
}
