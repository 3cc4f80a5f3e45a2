//! Selects the sentences of a report for a training step.
//!
//! A model that has only been trained on whole reports cannot judge single sentences such as
//! zero-shot prompts and phrases. Training on randomly drawn sentences in random order, which is
//! common (MGCA and BioViL-T among others), is an option: half of the time all sentences of a
//! report are used, otherwise any number of them. A corpus keeps one sentence per line; a report on
//! one line is one sentence.

use medst_data::report::WordPiece;
use rand::Rng;
use rand::seq::SliceRandom;

/// The word pieces of a report's sentences, without `[CLS]` and `[SEP]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sentences(Vec<Vec<u32>>);

impl Sentences {
    /// Cuts a report from a corpus.
    pub fn new(report: &str, pieces: &WordPiece) -> Sentences {
        let inner = |sentence: &str| {
            let ids = pieces.encode(sentence, usize::MAX);
            ids[1..ids.len() - 1].to_vec()
        };
        Sentences(report.lines().map(inner).filter(|ids| !ids.is_empty()).collect())
    }

    /// Whether the report has no word.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All sentences in their order, as at most `window` word pieces including `[CLS]` and `[SEP]`.
    pub fn whole(&self, pieces: &WordPiece, window: usize) -> Vec<u32> {
        framed(self.0.iter(), pieces, window)
    }

    /// Like [`Sentences::whole`], for randomly drawn sentences in random order.
    pub fn drawn(&self, pieces: &WordPiece, window: usize, random: &mut impl Rng) -> Vec<u32> {
        let mut order: Vec<&Vec<u32>> = self.0.iter().collect();
        order.shuffle(random);
        let count = if random.random_bool(0.5) { order.len() } else { random.random_range(1..=order.len().max(1)) };
        framed(order.into_iter().take(count), pieces, window)
    }
}

fn framed<'a>(sentences: impl Iterator<Item = &'a Vec<u32>>, pieces: &WordPiece, window: usize) -> Vec<u32> {
    let ids = sentences.flatten().copied().take(window.saturating_sub(2));
    std::iter::once(pieces.classifier()).chain(ids).chain([pieces.separator()]).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_whole_report_is_encoded_as_its_text_is() {
        let pieces = WordPiece::bert_cased();
        let report = "no pleural effusion\nsmall left pneumothorax improved";
        let sentences = Sentences::new(report, &pieces);
        for window in [3, 7, 112] {
            assert_eq!(sentences.whole(&pieces, window), pieces.encode(report, window));
        }
        assert!(Sentences::new("", &pieces).is_empty());
    }

    #[test]
    fn drawn_sentences_are_whole_sentences_of_the_report_each_at_most_once() {
        let pieces = WordPiece::bert_cased();
        let sentences = Sentences::new("no edema\nlarge heart\nclear lungs today", &pieces);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut lengths = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let ids = sentences.drawn(&pieces, 112, &mut random);
            let mut rest = &ids[1..ids.len() - 1];
            let mut seen = Vec::new();
            while !rest.is_empty() {
                let found = (0..3).find(|&n| rest.starts_with(&sentences.0[n])).expect("a sentence of the report");
                assert!(!seen.contains(&found));
                seen.push(found);
                rest = &rest[sentences.0[found].len()..];
            }
            lengths.insert(seen.len());
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
}
