//! Which studies of a batch belong to which process, and what the processes gather of each other's.

use std::ops::Range;

use tch::Tensor;

use super::{Group, sum};

/// One process' share of a batch.
#[derive(Clone, Debug)]
pub struct Share {
    pub group: Group,
    /// Studies of each process.
    pub counts: Vec<i64>,
    /// This process's sequences among those of the batch.
    pub sequences: Range<usize>,
}

impl Share {
    /// Shares out a batch: whole sequences, in order, as evenly as their lengths allow.
    ///
    /// * `lengths`: studies of each sequence.
    pub fn new(lengths: &[usize], group: &Group) -> Share {
        let parts = shares(lengths, group.size());
        let studies = |part: &Range<usize>| lengths[part.clone()].iter().sum::<usize>() as i64;
        Share {
            group: Group::clone(group),
            counts: parts.iter().map(studies).collect(),
            sequences: parts[group.rank()].clone(),
        }
    }

    /// Studies of the whole batch.
    pub fn studies(&self) -> i64 {
        self.counts.iter().sum()
    }

    /// Studies of this process.
    pub fn own(&self) -> i64 {
        self.counts[self.group.rank()]
    }

    /// The index in the batch of this process's first study.
    pub fn first(&self) -> i64 {
        self.counts[..self.group.rank()].iter().sum()
    }

    /// The rows of all processes, `[own, …]` to `[studies, …]`.
    pub fn gather(&self, own: &Tensor) -> Gathered {
        let all = self.group.gather(&own.detach().contiguous(), &self.counts);
        let (first, count) = (self.first(), self.own());
        let behind = first + count;
        let others = [all.narrow(0, 0, first), all.narrow(0, behind, self.studies() - behind)];
        let alike = Tensor::cat(&[&others[0], own, &others[1]], 0);
        Gathered { alike, divided: sum::gathered_rows(own, &all, first, &self.group) }
    }

    /// Sums a loss over all processes, so that every process has its value. The gradient goes to
    /// this process's part.
    pub fn total(&self, own: &Tensor) -> Tensor {
        let mut all = own.detach().copy();
        self.group.sum(&mut all);
        own + (all - own.detach())
    }
}

/// The rows of all processes, twice: for what every process computes in full, and for sums of which
/// each process computes its part.
#[derive(Debug)]
pub struct Gathered {
    /// For terms that every process computes identically. The gradient flows only to this process's
    /// rows; the others are constants here, because each process computes only its own gradient.
    pub alike: Tensor,
    /// For sums of which each process computes one part. The gradient of this process's rows is the
    /// sum over all parts, at the cost of one more sum over the processes.
    pub divided: Tensor,
}

/// Contiguous sequences for each of `ranks` processes; the borders are those nearest to equal
/// numbers of studies.
pub fn shares(lengths: &[usize], ranks: usize) -> Vec<Range<usize>> {
    let before: Vec<usize> = std::iter::once(0)
        .chain(lengths.iter().scan(0, |sum, &length| {
            *sum += length;
            Some(*sum)
        }))
        .collect();
    let all = before[lengths.len()];
    let border = |rank: usize| {
        // In units of 1/ranks of a study, so that all numbers are whole.
        let wanted = all * rank;
        let above = before.partition_point(|&studies| studies * ranks < wanted);
        let below = above.saturating_sub(1);
        let off = |place: usize| (before[place] * ranks).abs_diff(wanted);
        if off(below) < off(above) { below } else { above }
    };
    (0..ranks).map(|rank| border(rank)..if rank + 1 == ranks { lengths.len() } else { border(rank + 1) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every sequence has one process, in order, and no process has more than its even share
        /// and half a sequence on either side.
        #[test]
        fn every_sequence_has_one_process(lengths in proptest::collection::vec(1usize..6, 0..40), ranks in 1usize..9) {
            let parts = shares(&lengths, ranks);
            prop_assert_eq!(parts.len(), ranks);
            prop_assert_eq!((parts[0].start, parts[ranks - 1].end), (0, lengths.len()));
            prop_assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            let (all, longest) = (lengths.iter().sum::<usize>(), lengths.iter().copied().max().unwrap_or(0));
            for part in parts {
                prop_assert!(part.start <= part.end);
                prop_assert!(lengths[part].iter().sum::<usize>() * ranks <= all + longest * ranks);
            }
        }
    }

    #[test]
    fn fewer_sequences_than_processes_leave_some_without_work() {
        assert_eq!(shares(&[4, 4], 4), [0..1, 1..1, 1..2, 2..2]);
        assert_eq!(shares(&[4, 2, 1, 1], 2), [0..1, 1..4]);
    }
}
