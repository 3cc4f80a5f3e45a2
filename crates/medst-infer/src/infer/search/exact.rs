//! Exact search: the product of a query with every vector.

use ndarray::{ArrayView1, ArrayView2};

use crate::infer::vectors::Vectors;

/// Rows that are scored at once.
const BLOCK: usize = 4096;

/// The rows among `rows` with the highest products with `query`, highest first, equal ones by their
/// number.
pub fn nearest(vectors: &Vectors, rows: &[usize], query: &[f32], count: usize) -> Vec<(usize, f32)> {
    let all = ArrayView2::from_shape((vectors.len(), vectors.width()), vectors.values()).expect("rows of one width");
    let query = ArrayView1::from(query);
    let mut scored: Vec<(usize, f32)> = Vec::with_capacity(rows.len());
    if rows.len() == vectors.len() {
        for start in (0..vectors.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(vectors.len());
            let block = all.slice(ndarray::s![start..end, ..]).dot(&query);
            scored.extend(block.iter().enumerate().map(|(n, &score)| (start + n, score)));
        }
    } else {
        scored.extend(rows.iter().map(|&row| (row, all.row(row).dot(&query))));
    }
    let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let count = count.min(scored.len());
    if count > 0 && count < scored.len() {
        scored.select_nth_unstable_by(count - 1, order);
    }
    scored.truncate(count);
    scored.sort_by(order);
    scored
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nearest_is_the_head_of_all_sorted(
            values in proptest::collection::vec(-3i8..3, 8..80), chosen in proptest::collection::vec(any::<bool>(), 40), count in 0usize..9,
        ) {
            let vectors = Vectors::new(values[..values.len() / 2 * 2].iter().map(|&x| f32::from(x)).collect(), 2).unwrap();
            let query = [0.5f32, -1.0];
            for rows in [(0..vectors.len()).collect::<Vec<_>>(), (0..vectors.len()).filter(|&n| chosen[n % 40]).collect()] {
                let mut expected: Vec<(usize, f32)> =
                    rows.iter().map(|&n| (n, vectors.row(n)[0] * 0.5 - vectors.row(n)[1])).collect();
                expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                expected.truncate(count);
                prop_assert_eq!(nearest(&vectors, &rows, &query, count), expected);
            }
        }
    }
}
