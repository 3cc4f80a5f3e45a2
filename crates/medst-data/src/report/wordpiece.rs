//! WordPiece with the BERT cased vocabulary, as Hugging Face's `BertTokenizer(do_lower_case=False)` does it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokenizers::models::wordpiece::WordPiece as Model;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerBuilder, TokenizerImpl,
};

use crate::{Error, Result};

/// The 28,996 entries of BERT's cased vocabulary (Apache-2.0, see THIRD_PARTY.md), which Bio_ClinicalBERT uses too.
const BERT_CASED: &[u8] = include_bytes!("../../assets/bert-base-cased-vocab.txt");

type Tokenizer = TokenizerImpl<Model, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Cuts cleaned report text into word pieces.
pub struct WordPiece {
    tokenizer: Tokenizer,
    pieces: Vec<String>,
    continuation: Vec<bool>,
    classifier: u32,
    separator: u32,
    checksum: String,
}

impl WordPiece {
    /// The built-in cased vocabulary.
    pub fn bert_cased() -> WordPiece {
        Self::from_vocabulary(BERT_CASED, Path::new("(built-in)")).expect("the built-in vocabulary is valid")
    }

    /// A vocabulary file: one piece a line, the line number is the id.
    ///
    /// # Errors
    /// Unreadable, not UTF-8, an empty or repeated line, or no `[PAD]`, `[UNK]`, `[CLS]` or `[SEP]`: file and line are named.
    pub fn from_file(path: &Path) -> Result<WordPiece> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Self::from_vocabulary(&bytes, path)
    }

    /// As [`WordPiece::from_file`], from the text of a vocabulary file; `path` is what errors call it.
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
            let place = pieces.iter().position(|piece| piece == wanted);
            place.map(|id| id as u32).ok_or_else(|| fail(format!("has no line `{wanted}`")))
        };
        let (classifier, separator) = (id("[CLS]")?, id("[SEP]")?);
        if id("[PAD]")? != 0 {
            return Err(fail("`[PAD]` must be the first line: batches are padded with 0".into()));
        }
        id("[UNK]")?;
        let vocabulary: ahash::AHashMap<String, u32> =
            pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), id as u32)).collect();
        let engine = |error: tokenizers::Error| fail(error.to_string());
        let model = Model::builder()
            .vocab(vocabulary)
            .unk_token("[UNK]".into())
            .continuing_subword_prefix("##".into())
            .build()
            .map_err(engine)?;
        let tokenizer = TokenizerBuilder::new()
            .with_model(model)
            .with_normalizer(Some(BertNormalizer::new(true, true, Some(false), false).into()))
            .with_pre_tokenizer(Some(BertPreTokenizer.into()))
            .with_post_processor(Some(
                BertProcessing::new(("[SEP]".into(), separator), ("[CLS]".into(), classifier)).into(),
            ))
            .with_decoder(None)
            .build()
            .map_err(engine)?;
        Ok(WordPiece {
            tokenizer,
            continuation: pieces.iter().map(|piece| piece.starts_with("##")).collect(),
            pieces,
            classifier,
            separator,
            checksum: format!("{:x}", Sha256::digest(bytes)),
        })
    }

    /// `[CLS]`, the pieces of `text`, `[SEP]`: at most `max_tokens` ids, not padded. Longer texts lose their end and keep
    /// `[SEP]`.
    pub fn encode(&self, text: &str, max_tokens: usize) -> Vec<u32> {
        let room = max_tokens.saturating_sub(2);
        // Text that the tokenizer cannot read at all (it has no such input) would be an empty report.
        let encoding = self.tokenizer.encode(text, false);
        let pieces = encoding.map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default();
        let mut ids = Vec::with_capacity(pieces.len().min(room) + 2);
        ids.push(self.classifier);
        ids.extend(pieces.into_iter().take(room));
        ids.push(self.separator);
        ids
    }

    /// Whether a piece (`##…`) belongs to the word before it.
    pub fn is_continuation(&self, id: u32) -> bool {
        self.continuation.get(id as usize).copied().unwrap_or(false)
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

    #[test]
    fn faulty_vocabularies_are_refused_with_their_line() {
        for (text, expected) in [
            (&b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nlung\nlung\n"[..], "line 6 repeats"),
            (b"[PAD]\n[UNK]\n\n", "line 3 is empty"),
            (b"[PAD]\n[UNK]\n[CLS]\nlung\n", "no line `[SEP]`"),
            (b"[PAD]\n\xff\xfe\n", "line 2 is not UTF-8"),
            (b"[UNK]\n[PAD]\n[CLS]\n[SEP]\n", "must be the first line"),
        ] {
            let error = WordPiece::from_vocabulary(text, Path::new("v.txt")).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{error:?}");
        }
    }
}
