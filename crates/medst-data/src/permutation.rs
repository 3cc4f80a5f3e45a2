//! NumPy's legacy shuffle, and the splits that scikit-learn draws with it (`random_state=…`).
//!
//! The reference divides RSNA and COVIDx so, and its cross-validation; to reproduce its parts, its
//! permutation has to be reproduced: the Mersenne Twister (MT19937), and a shuffle which draws from
//! `0..=i` by masking 32 bits and rejecting.

use rand_mt::Mt;

/// NumPy's `RandomState(seed)`, as far as shuffling needs it.
#[derive(Debug)]
pub struct NumpyRandom(Mt);

impl NumpyRandom {
    pub fn new(seed: u32) -> NumpyRandom {
        NumpyRandom(Mt::new(seed))
    }

    /// `RandomState.shuffle` of a one-dimensional array.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, below(&mut self.0, last as u32) as usize);
        }
    }
}

/// NumPy's `RandomState(seed).permutation(n)`.
pub fn permutation(n: usize, seed: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    NumpyRandom::new(seed).shuffle(&mut order);
    order
}

/// A number of `0..=most`, as NumPy's `random_interval` draws it.
fn below(random: &mut Mt, most: u32) -> u32 {
    let mask = u32::MAX >> most.leading_zeros();
    loop {
        let drawn = random.next_u32() & mask;
        if drawn <= most {
            return drawn;
        }
    }
}

/// `train_test_split(range(n), test_size=tested, random_state=seed)`: the training and the test
/// part, in their order.
pub fn train_test_split(n: usize, tested: usize, seed: u32) -> (Vec<usize>, Vec<usize>) {
    let mut test = permutation(n, seed);
    let train = test.split_off(tested.min(n));
    (train, test)
}

/// The size of a test part given as a share: `ceil`, as scikit-learn rounds it.
pub fn test_count(n: usize, share: f64) -> usize {
    (share * n as f64).ceil() as usize
}

/// The size of the test part where the training part is given as a share, which scikit-learn rounds
/// with `floor`.
pub fn rest_count(n: usize, trained: f64) -> usize {
    n - (trained * n as f64).floor() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.random.RandomState(0).permutation(10)`, `RandomState(42).permutation(7)`.
    #[test]
    fn permutations_are_numpys() {
        assert_eq!(permutation(10, 0), [2, 8, 4, 9, 1, 6, 7, 3, 0, 5]);
        assert_eq!(permutation(7, 42), [0, 1, 5, 2, 4, 3, 6]);
    }

    /// `train_test_split(range(10), test_size=0.3, random_state=0)`; `train_size=0.8` of 11.
    #[test]
    fn splits_are_scikit_learns() {
        let (train, test) = train_test_split(10, test_count(10, 0.3), 0);
        assert_eq!((train, test), (vec![9, 1, 6, 7, 3, 0, 5], vec![2, 8, 4]));
        assert_eq!(rest_count(11, 0.8), 3);
    }
}
