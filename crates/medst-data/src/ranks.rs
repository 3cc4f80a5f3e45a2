//! Several processes that share a job, as far as data are concerned: the division of work, and the
//! messages.

use std::ops::Range;
use std::sync::mpsc;
use std::time::Duration;

/// The processes of a job. All of them make the same calls in the same order.
pub trait Ranks: Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;
    /// How many processes there are.
    fn size(&self) -> usize;
    /// Gathers bytes from every process, in rank order. Blocks until all processes have called.
    fn gather_bytes(&self, bytes: &[u8]) -> Vec<Vec<u8>>;

    /// Whether this is the process that writes and speaks for all.
    fn leads(&self) -> bool {
        self.rank() == 0
    }
}

/// One process alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather_bytes(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        vec![bytes.to_vec()]
    }
}

/// How often waiting processes hear from the one that they wait for: a process that is silent for
/// longer is taken for lost.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

/// Runs a long task on the leading process, and regularly lets the others, which [`wait`], know
/// that it is still running.
pub fn lead<T: Send>(ranks: &dyn Ranks, work: impl FnOnce() -> T + Send) -> T {
    if ranks.size() == 1 {
        return work();
    }
    std::thread::scope(|scope| {
        let (sender, done) = mpsc::channel::<()>();
        let worker = scope.spawn(move || {
            // Dropped at the end, whatever the end is.
            let _sender = sender;
            work()
        });
        while done.recv_timeout(SIGN_OF_LIFE) == Err(mpsc::RecvTimeoutError::Timeout) {
            ranks.gather_bytes(&[]);
        }
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Waits until the process that leads has done the work of [`lead`] and has sent its result to all:
/// these bytes, which are not empty.
pub fn wait(ranks: &dyn Ranks) -> Vec<u8> {
    loop {
        let said = ranks.gather_bytes(&[]).swap_remove(0);
        if !said.is_empty() {
            return said;
        }
    }
}

/// The part of `count` things that process `rank` of `size` does: contiguous, in order of rank,
/// sizes that differ by at most one.
pub fn part(count: usize, rank: usize, size: usize) -> Range<usize> {
    // In 128 bits, because counts of pictures and processes may be large.
    let border = |rank: usize| (count as u128 * rank as u128 / size as u128) as usize;
    border(rank)..border(rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_cover_everything_once_and_evenly(count in 0usize..10_000, size in 1usize..100) {
            let parts: Vec<Range<usize>> = (0..size).map(|rank| part(count, rank, size)).collect();
            prop_assert_eq!((parts[0].start, parts[size - 1].end), (0, count));
            prop_assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
            let (least, most) = (parts.iter().map(Range::len).min().unwrap(), parts.iter().map(Range::len).max().unwrap());
            prop_assert!(most - least <= 1);
        }
    }
}
