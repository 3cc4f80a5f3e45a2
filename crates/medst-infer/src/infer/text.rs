//! Prompts and reports, from what people write to word pieces.
//!
//! A prompt is read whole or refused: a sentence whose end is silently lost would answer another
//! question. A report is cut at the model's window, as in training.

use std::fmt;

use medst_data::report::{self, Rule, WordPiece, clean};

use crate::model::config::{ModelConfig, Semantics};
use crate::model::input::ReportInput;
use crate::{Error, Result};

/// Bytes of the longest prompt that is cut into pieces, several times what fits any window. Longer
/// ones are refused before.
const LONGEST_PROMPT: usize = 1 << 14;
/// The same for reports, of which the end may be cut off.
const LONGEST_REPORT: usize = 1 << 17;

/// Why a text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("has no words")]
    NoWords,
    /// `start`: how the prompt begins.
    #[error("the prompt “{start}” has no words")]
    PromptWithoutWords { start: String },
    #[error("the prompt “{start}…” has {length}, but the model reads at most {window} tokens; shorten it")]
    PromptTooLong { start: String, length: Length, window: usize },
    #[error("report too long: {bytes} bytes (limit {LONGEST_REPORT})")]
    ReportTooLong { bytes: usize },
    /// Nothing of the report can be read.
    #[error("{0}")]
    Rejected(report::Rejection),
}

/// How long a prompt is. One that is far too long is not cut into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Bytes(usize),
    Tokens(usize),
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Length::Bytes(count) => write!(f, "{count} bytes"),
            Length::Tokens(count) => write!(f, "{count} tokens"),
        }
    }
}

impl From<TextError> for Error {
    fn from(error: TextError) -> Error {
        Error::Input(error.to_string())
    }
}

/// A text in word pieces; never without words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Cleaned: lower case, words only.
    words: String,
    tokens: Vec<u32>,
    /// Whether the window was too short for all of it.
    pub truncated: bool,
}

impl Text {
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Tokens, `[CLS]` and `[SEP]` included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Never: it holds `[CLS]`, a word and `[SEP]`.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// Cuts texts into word pieces. It needs no model, so any thread can prepare texts for one.
pub struct Reader {
    pieces: WordPiece,
    window: usize,
    semantics: Semantics,
}

impl Reader {
    pub fn new(pieces: WordPiece, config: &ModelConfig) -> Reader {
        Reader { pieces, window: config.text.max_tokens as usize, semantics: config.semantics }
    }

    /// The longest text in tokens.
    pub fn window(&self) -> usize {
        self.window
    }

    pub fn pieces(&self) -> &WordPiece {
        &self.pieces
    }

    /// How reports are cleaned, as those were that the model learnt from.
    pub fn rule(&self) -> Rule {
        match self.semantics {
            Semantics::Corrected => Rule::Standard,
            Semantics::Reference => Rule::Reference,
        }
    }

    /// A sentence that is compared with images, such as a class' prompt or a query.
    ///
    /// # Errors
    /// No words, or more of them than the model reads at once: the sentence is named.
    pub fn prompt(&self, sentence: &str) -> Result<Text, TextError> {
        let start = || sentence.chars().take(60).collect::<String>();
        let too_long = |length: Length| TextError::PromptTooLong { start: start(), length, window: self.window };
        if sentence.len() > LONGEST_PROMPT {
            return Err(too_long(Length::Bytes(sentence.len())));
        }
        let words = clean::query(sentence);
        if words.is_empty() {
            return Err(TextError::PromptWithoutWords { start: start() });
        }
        // All tokens, to see whether the whole sentence fits.
        let tokens = self.pieces.encode(&words, usize::MAX);
        if tokens.len() > self.window {
            return Err(too_long(Length::Tokens(tokens.len())));
        }
        Ok(Text { words, tokens, truncated: false })
    }

    /// As [`Reader::prompt`], but what exceeds the model's window is cut off: evaluations compare
    /// the texts that their data hold.
    ///
    /// # Errors
    /// A text without words, which is named.
    pub fn sentence(&self, text: &str) -> Result<Text> {
        let cut = self.cleaned(&clean::query(text));
        cut.map_err(|_| Error::Evaluation(format!("the text “{text}” has no words")))
    }

    /// A report as a hospital writes it.
    ///
    /// # Errors
    /// Why nothing of it can be read.
    pub fn report(&self, report: &str) -> Result<Text, TextError> {
        if report.len() > LONGEST_REPORT {
            return Err(TextError::ReportTooLong { bytes: report.len() });
        }
        self.cleaned(&report::prepare(report, None, self.rule()).map_err(TextError::Rejected)?)
    }

    /// A report that was cleaned before, such as a corpus'.
    ///
    /// # Errors
    /// A report without words.
    pub fn cleaned(&self, words: &str) -> Result<Text, TextError> {
        if words.trim().is_empty() {
            return Err(TextError::NoWords);
        }
        let mut tokens = self.pieces.encode(words, usize::MAX);
        let truncated = tokens.len() > self.window;
        if truncated {
            tokens.truncate(self.window - 1);
            tokens.push(self.pieces.separator());
        }
        // A corpus has a sentence per line; shown and compared it is one text.
        Ok(Text { words: words.replace('\n', " "), tokens, truncated })
    }

    /// Texts as a batch of the model.
    pub fn input(&self, texts: &[&Text]) -> ReportInput {
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| text.tokens.clone()).collect();
        let continues = |id| self.pieces.is_continuation(id);
        ReportInput::new(&tokens, continues, self.pieces.separator(), self.window as i64, self.semantics)
    }

    /// The words whose features the model gives for a text, in order: without `[CLS]`, with `[SEP]`
    /// as the last.
    ///
    /// * `count`: how many there are ([`ReportInput::word_counts`]); reference semantics loses
    ///   some.
    pub fn spelled(&self, text: &Text, count: usize) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for &id in text.tokens.iter().skip(1) {
            let piece = self.pieces.piece(id).unwrap_or("[UNK]");
            match words.last_mut() {
                Some(last) if self.pieces.is_continuation(id) => last.push_str(piece.trim_start_matches("##")),
                _ => words.push(piece.to_string()),
            }
        }
        words.truncate(count);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reader(window: i64) -> Reader {
        let mut config = ModelConfig::default();
        config.text.max_tokens = window;
        Reader::new(WordPiece::bert_cased(), &config)
    }

    #[test]
    fn prompts_are_read_whole_or_refused_and_reports_are_cut() {
        let reader = reader(8);
        assert_eq!(reader.prompt("No Pneumothorax!").unwrap().words(), "no pneumothorax");
        for (prompt, expected) in [("", "no words"), (" …!? ", "no words"), (&"edema ".repeat(30), "tokens")] {
            let error = reader.prompt(prompt).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(reader.prompt(&"x".repeat(LONGEST_PROMPT + 1)).unwrap_err().to_string().contains("bytes"));
        let report = reader.report(&"The lungs are clear. ".repeat(20)).unwrap();
        assert!(report.truncated && report.len() == 8);
        assert_eq!(report, reader.cleaned("the lungs are clear ".repeat(20).trim_end()).unwrap());
        assert!(reader.report("ok").is_err());
    }

    #[test]
    fn words_are_spelled_as_the_model_counts_them() {
        let reader = reader(112);
        let text = reader.prompt("no pneumothorax seen").unwrap();
        assert!(text.len() > 5, "the word is cut into pieces");
        assert_eq!(reader.spelled(&text, 4), ["no", "pneumothorax", "seen", "[SEP]"]);
        assert_eq!(reader.input(&[&text]).word_counts, [4]);
    }

    proptest! {
        #[test]
        fn any_sentence_is_read_or_refused(sentence in "\\PC{0,60}") {
            let reader = reader(24);
            if let Ok(text) = reader.prompt(&sentence) {
                prop_assert!(text.len() >= 3 && text.len() <= 24 && !text.is_empty());
                let count = reader.input(&[&text]).word_counts[0] as usize;
                prop_assert_eq!(reader.spelled(&text, count).len(), count);
            }
        }
    }
}
