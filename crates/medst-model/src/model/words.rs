//! From word pieces to words: the states of a word's pieces are summed (paper, section 3.2; MGCA's
//! aggregation).
//!
//! Word 0 is `[CLS]`, which is the report feature and no local feature; `[SEP]` is kept as the last
//! word.
//!
//! How this differs from the reference: which tokens are walked is decided in [`ReportInput`]; here
//! both semantics are one sum.
//!
//! Letters: `B` reports, `N` tokens, `W` words, `H` width.

use tch::Tensor;

use super::input::ReportInput;

/// Sums of piece states by word, `[B, N, H]` to `[B, W, H]`; rows of words that do not exist are
/// zero.
pub fn sum_pieces(states: &Tensor, input: &ReportInput) -> Tensor {
    let (batch, width) = (states.size()[0], states.size()[2]);
    let target = word_rows(&input.word_of_token, input.words);
    let sums = Tensor::zeros([batch, input.words + 2, width], (states.kind(), states.device())).scatter_add(
        1,
        &target.unsqueeze(2).expand([-1, -1, width], false),
        states,
    );
    // Row 0 collects tokens of no word, row 1 is `[CLS]`.
    sums.narrow(1, 2, input.words)
}

/// The attention of `[CLS]` to the words, `[B, N]` to `[B, W]`, pieces summed.
///
/// `shifted`: the reference pairs token `n` with the attention to token `n + 1`, which shifts its
/// map by one token.
pub fn attention_by_word(attention: &Tensor, input: &ReportInput, shifted: bool) -> Tensor {
    let attention = if shifted {
        let tokens = attention.size()[1];
        attention.narrow(1, 1, tokens - 1).constant_pad_nd([0, 1])
    } else {
        attention.shallow_clone()
    };
    let sums = Tensor::zeros([attention.size()[0], input.words + 2], (attention.kind(), attention.device()));
    sums.scatter_add(1, &word_rows(&input.word_of_token, input.words), &attention).narrow(1, 2, input.words)
}

/// Tokens of no word go to row 0, `[CLS]` to row 1, word `w` to row `w + 1`.
fn word_rows(word_of_token: &Tensor, words: i64) -> Tensor {
    (word_of_token + 1).clamp(0, words + 1)
}
