//! Decides which sequences form which batch, as a function of seed and epoch only, so that a run
//! can be resumed anywhere.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// What a random stream is for. The numbers are part of what a seed means, so they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Traffic of imagined runs (lab/scale).
    Simulation = 0,
    /// Sequences of an epoch's batches.
    Order = 1,
    /// Pictures of a study, and how they are cropped.
    Pictures = 2,
    /// Dropout of a batch.
    Dropout = 3,
    /// Sentences of a report.
    Sentences = 7,
    /// Statements in place of a report.
    Statements = 8,
    /// What the items of a batch of fine-tuning are mixed with.
    Mixup = 9,
}

/// The random stream of a purpose, decided by these numbers alone.
///
/// * `place`: for example the epoch and the row of a study.
pub fn random(seed: u64, place: [u64; 2], purpose: Purpose) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    for (slot, number) in bytes.chunks_exact_mut(8).zip([seed, place[0], place[1], purpose as u64]) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(bytes)
}

/// The batches of an epoch: shuffled sequences, `size` to a batch, the last one as small as it
/// comes.
///
/// * `sequences`: the studies (rows of the corpus) of each sequence.
///
/// A batch of a single study is left out: batch statistics and contrast need at least two.
pub fn batches(sequences: &[Vec<u32>], size: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.shuffle(&mut random(seed, [epoch, 0], Purpose::Order));
    in_order(&order, sequences, size)
}

/// Batches without shuffling, for validation.
pub fn in_order(order: &[usize], sequences: &[Vec<u32>], size: usize) -> Vec<Vec<usize>> {
    let studies = |batch: &[usize]| batch.iter().map(|&n| sequences[n].len()).sum::<usize>();
    order.chunks(size).filter(|batch| studies(batch) > 1).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_holds_every_sequence_once(lengths in proptest::collection::vec(2usize..5, 1..50), size in 1usize..9, seed: u64, epoch in 0u64..5) {
            let sequences: Vec<Vec<u32>> = lengths.iter().map(|&n| vec![0; n]).collect();
            let drawn = batches(&sequences, size, seed, epoch);
            prop_assert_eq!(&drawn, &batches(&sequences, size, seed, epoch));
            let mut all: Vec<usize> = drawn.into_iter().flatten().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..sequences.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_single_studies_make_no_batch() {
        let sequences = vec![vec![0, 1]; 40];
        assert_ne!(batches(&sequences, 4, 1, 0), batches(&sequences, 4, 1, 1));
        assert_ne!(batches(&sequences, 4, 1, 0), batches(&sequences, 4, 2, 0));
        assert_eq!(in_order(&[0, 1, 2], &[vec![1], vec![2], vec![3]], 2), [[0, 1]]);
    }
}
