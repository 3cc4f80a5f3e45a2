//! A report against the pictures of its study: each sentence that a model reads, its words, and
//! whether it resembles a region.
//!
//! A sentence is aligned by itself, as a phrase is ([`ground::ground`]), so that its heat map is
//! that of the phrase. Its *closeness* is the mean over its words of the highest cosine with a
//! patch, weighted with the importance that the model's local loss gives words; it *matches* where
//! that reaches a bound. The bound is the reader's choice: cosines of words and patches are not
//! probabilities, and how high they are differs between models. (The peak of the heat map separated
//! sentences that affirm a finding from those that deny one less well: see docs/log.md.)

use medst_data::report::{clean, spans};
use serde::Serialize;

use super::align::Alignment;
use super::ground::{self, Grounded, Shows};
use super::text::{Reader, Text, TextError};

/// Most sentences of a report.
pub const MOST: usize = 64;

/// A report, cut into what is read and what is not.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The whole report, piece by piece; pieces that are read name their sentence.
    pub pieces: Vec<Piece>,
    /// Sentences, or why one is not read.
    pub sentences: Vec<Result<Text, TextError>>,
}

/// Why a report cannot be read sentence by sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadingError {
    #[error("the report has neither an impression nor findings, nor text without headers")]
    Nothing,
    #[error("too many sentences: {0} (limit {MOST})")]
    TooManySentences(usize),
}

/// A piece of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Piece {
    pub text: String,
    pub sentence: Option<usize>,
}

/// A piece of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WordPiece {
    pub text: String,
    /// The model's words in it, as start and exclusive end; `None` for signs between words.
    pub words: Option<[usize; 2]>,
}

/// A sentence with the pictures.
#[derive(Clone, Debug, Serialize)]
pub struct ReadSentence {
    pub text: String,
    pub pieces: Vec<WordPiece>,
    /// Why it was not read.
    pub left_out: Option<String>,
    pub grounded: Option<Grounded>,
    /// Mean over words of the highest cosine with a patch, weighted with their importance.
    pub closeness: Option<f32>,
    pub matches: bool,
}

impl Reading {
    /// # Errors
    /// A report without anything to read, or with too many sentences.
    pub fn new(report: &str, reader: &Reader) -> Result<Reading, ReadingError> {
        let ranges = spans::sentences(report);
        match ranges.len() {
            0 => return Err(ReadingError::Nothing),
            many if many > MOST => return Err(ReadingError::TooManySentences(many)),
            _ => {}
        }
        let (mut pieces, mut at) = (Vec::new(), 0);
        for (number, range) in ranges.iter().enumerate() {
            pieces.push(Piece { text: report[at..range.start].into(), sentence: None });
            pieces.push(Piece { text: report[range.clone()].into(), sentence: Some(number) });
            at = range.end;
        }
        pieces.push(Piece { text: report[at..].into(), sentence: None });
        pieces.retain(|piece| !piece.text.is_empty());
        let read = |range: std::ops::Range<usize>| reader.prompt(&report[range]);
        Ok(Reading { pieces, sentences: ranges.into_iter().map(read).collect() })
    }

    /// The sentences that are read.
    pub fn texts(&self) -> impl Iterator<Item = &Text> {
        self.sentences.iter().flatten()
    }

    /// The sentences with the alignments of [`Reading::texts`], which are given in the same order.
    ///
    /// * `share`: of [`super::boxes::hot_boxes`]; `least`: the lowest closeness that is a match.
    pub fn ground(
        &self,
        alignments: &[Alignment],
        canvases: &[Shows<'_>],
        share: f32,
        least: f32,
    ) -> Vec<ReadSentence> {
        let mut alignments = alignments.iter();
        let of = |piece: &&Piece| piece.sentence.is_some();
        let sentence = |(piece, read): (&Piece, &Result<Text, TextError>)| {
            let text = piece.text.clone();
            let alignment = read.as_ref().ok().and_then(|_| alignments.next());
            let Some(alignment) = alignment else {
                let pieces = vec![WordPiece { text: text.clone(), words: None }];
                let left_out = read.as_ref().err().map(TextError::to_string);
                return ReadSentence { text, pieces, left_out, grounded: None, closeness: None, matches: false };
            };
            let grounded = ground::ground(&text, alignment, canvases, share, true);
            let closeness = grounded.words.iter().map(|word| word.importance * word.similarity).sum::<f32>();
            let pieces = word_pieces(&text, &alignment.words);
            let (matches, closeness) = (closeness >= least, Some(closeness));
            ReadSentence { text, pieces, left_out: None, grounded: Some(grounded), closeness, matches }
        };
        self.pieces.iter().filter(of).zip(&self.sentences).map(sentence).collect()
    }
}

/// Cuts a sentence into words, as reports are cut, and the text between them; a written word may be
/// several of the model's.
fn word_pieces(text: &str, words: &[String]) -> Vec<WordPiece> {
    let (mut pieces, mut next): (Vec<WordPiece>, usize) = (Vec::new(), 0);
    let between = |text: &str| (!text.is_empty()).then(|| WordPiece { text: text.into(), words: None });
    let mut end = 0;
    for written in clean::words(text) {
        let at = written.as_ptr() as usize - text.as_ptr() as usize;
        pieces.extend(between(&text[end..at]));
        end = at + written.len();
        let mut wanted: String = written.to_lowercase().chars().filter(char::is_ascii).collect();
        let start = next;
        while !wanted.is_empty() && next < words.len() && words[next] != "[SEP]" {
            match wanted.strip_prefix(words[next].as_str()) {
                Some(left) => wanted = left.into(),
                // A word outside of the vocabulary represents all of it.
                None => wanted.clear(),
            }
            next += 1;
        }
        pieces.push(WordPiece { text: written.into(), words: (next > start).then_some([start, next]) });
    }
    pieces.extend(between(&text[end..]));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::ModelConfig;
    use medst_data::report;

    fn reader() -> Reader {
        Reader::new(report::WordPiece::bert_cased(), &ModelConfig::default())
    }

    #[test]
    fn pieces_are_the_report_and_sentences_are_read_or_refused() {
        let long = "pneumonia ".repeat(300);
        let text = format!("INDICATION: Cough.\nFINDINGS: No effusion. ?! {long}.\n");
        let reading = Reading::new(&text, &reader()).unwrap();
        let all: String = reading.pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(all, text);
        assert_eq!(reading.texts().map(Text::words).collect::<Vec<_>>(), ["no effusion"]);
        let refused: Vec<&TextError> = reading.sentences.iter().filter_map(|read| read.as_ref().err()).collect();
        assert!(refused.iter().any(|error| matches!(error, TextError::PromptWithoutWords { .. })), "{refused:?}");
        assert!(refused.iter().any(|error| matches!(error, TextError::PromptTooLong { .. })), "{refused:?}");
        assert!(Reading::new("INDICATION: Cough.\n", &reader()).is_err());
        let many = Reading::new(&"Edema. ".repeat(MOST + 1), &reader()).unwrap_err();
        assert_eq!(many, ReadingError::TooManySentences(65));
    }

    #[test]
    fn written_words_are_found_among_the_models() {
        let reader = reader();
        let sentence = "1. No pneumothorax, ___ (2.5 cm) größe!";
        let text = reader.prompt(sentence).unwrap();
        let count = reader.input(&[&text]).word_counts[0] as usize;
        let words = reader.spelled(&text, count);
        let pieces = word_pieces(sentence, &words);
        assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), sentence);
        let spelled = |text: &str| {
            let piece = pieces.iter().find(|piece| piece.text == text).unwrap();
            piece.words.map(|[start, end]| words[start..end].concat())
        };
        assert_eq!(spelled("pneumothorax").as_deref(), Some("pneumothorax"));
        assert_eq!(spelled("___").as_deref(), Some("___"));
        assert_eq!((spelled("größe").as_deref(), spelled(", ")), (Some("gre"), None));
        let last = pieces.iter().filter_map(|piece| piece.words).next_back().unwrap();
        assert_eq!(last[1], words.len() - 1, "all but [SEP]");
    }
}
