//! Which inputs are computed together.
//!
//! A batch is bounded by what it costs: images by their number (a lateral view counts as one more),
//! texts by the tokens that padding makes of them, the longest times their number.

/// How much is computed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pictures, laterals counted.
    pub images: usize,
    /// Tokens, padding counted.
    pub tokens: usize,
}

impl Limits {
    /// So many pictures, and texts that take about as long.
    pub fn of_images(images: usize) -> Limits {
        let images = images.max(1);
        Limits { images, tokens: (128 * images).max(2048) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::of_images(16)
    }
}

/// Groups of texts of similar length; together they hold every number below `lengths.len()` once.
///
/// * `tokens`: the most that a group may hold, padding included. A longer text forms a separate
///   group.
pub fn by_tokens(lengths: &[usize], tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&n| lengths[n]);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for n in order {
        match groups.last_mut() {
            // The one that is added is the longest.
            Some(group) if (group.len() + 1) * lengths[n] <= tokens => group.push(n),
            _ => groups.push(vec![n]),
        }
    }
    groups
}

/// Groups of inputs in their order, each of which costs at most `most`; an input that costs more
/// forms a separate group.
pub fn by_cost(costs: &[usize], most: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut sum = 0;
    for (n, &cost) in costs.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if sum + cost <= most => group.push(n),
            _ => {
                groups.push(vec![n]);
                sum = 0;
            }
        }
        sum += cost;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn groups_are_as_large_as_they_may_be() {
        assert_eq!(by_tokens(&[5, 3, 4, 100], 12), [vec![1, 2], vec![0], vec![3]]);
        assert_eq!(by_cost(&[1, 2, 1, 9, 1], 4), [vec![0, 1, 2], vec![3], vec![4]]);
    }

    proptest! {
        #[test]
        fn every_input_is_in_one_group_within_the_bound(lengths in proptest::collection::vec(1usize..40, 0..60), most in 1usize..200) {
            for (groups, padded) in [(by_tokens(&lengths, most), true), (by_cost(&lengths, most), false)] {
                let mut all: Vec<usize> = groups.concat();
                all.sort_unstable();
                prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
                for group in &groups {
                    let costs = group.iter().map(|&n| lengths[n]);
                    let cost = if padded { costs.max().unwrap_or(0) * group.len() } else { costs.sum() };
                    prop_assert!(group.len() == 1 || cost <= most);
                }
            }
        }
    }
}
