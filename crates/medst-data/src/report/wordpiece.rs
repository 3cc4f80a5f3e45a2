//! WordPiece with the BERT cased vocabulary, as Hugging Face's `BertTokenizer(do_lower_case=False)` does it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokenizers::models::wordpiece::WordPiece as Model;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerBuilder, TokenizerImpl,
};

use crate::{Error, Result, input};

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

    /// A vocabulary file: `vocab.txt`, one piece per line, whose number is the id; or the `tokenizer.json` of a WordPiece
    /// tokenizer, recognised by its content.
    ///
    /// # Errors
    /// A tokenizer of another kind; unreadable, not UTF-8, an empty or repeated line, or no `[PAD]`, `[UNK]`, `[CLS]` or `[SEP]`: file and line are named.
    pub fn from_file(path: &Path) -> Result<WordPiece> {
        let bytes = input::read(path, input::TEXT).map_err(Error::io(path))?;
        if bytes.trim_ascii_start().starts_with(b"{") {
            return Self::from_vocabulary(&lines_of_tokenizer(&bytes, path)?, path);
        }
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
            place.map(|id| id as u32).ok_or_else(|| fail(format!("has no piece `{wanted}`")))
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

/// What matters of a `tokenizer.json`.
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
            "holds a {kind} tokenizer (continuing pieces begin with `{prefix}`); expected BERT's WordPiece with `##`"
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
    if let Some(gap) = pieces.keys().enumerate().find_map(|(place, &id)| (place as u32 != id).then_some(place)) {
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
