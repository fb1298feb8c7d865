//! Batches made ready on other threads, in a fixed order.
//!
//! Owns: [`for_each_batch`]. Must not know: what a batch holds.
//!
//! Reader `k` of `r` makes batches `k`, `k + r`, … into a queue of its own, and the queues are read in turn: the order
//! is that of the ranges whatever the readers do, and no more batches are in memory than the queues hold.

use super::TrainError;
use crossbeam_channel::bounded;
use std::ops::{ControlFlow, Range};

/// How many threads, and how many batches ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readers {
    /// Threads.
    pub threads: usize,
    /// Batches made ready ahead.
    pub queue_batches: usize,
}

/// Makes a batch of each range and hands them to `consume`, in order, until that breaks.
///
/// # Errors
/// The first that `make` or `consume` gives.
pub fn for_each_batch<T: Send>(
    ranges: &[Range<usize>],
    readers: Readers,
    make: &(dyn Fn(Range<usize>) -> Result<T, TrainError> + Sync),
    mut consume: impl FnMut(T) -> Result<ControlFlow<()>, TrainError>,
) -> Result<(), TrainError> {
    let count = readers.threads.clamp(1, ranges.len().max(1));
    std::thread::scope(|scope| {
        let queues: Vec<_> = (0..count)
            .map(|reader| {
                let (sender, receiver) = bounded(readers.queue_batches.div_ceil(count).max(1));
                scope.spawn(move || {
                    for range in ranges.iter().skip(reader).step_by(count) {
                        let batch = make(range.clone());
                        let is_last = batch.is_err();
                        // Nobody listens any more: the epoch was ended early.
                        if sender.send(batch).is_err() || is_last {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for i in 0..ranges.len() {
            let batch = queues[i % count].recv().map_err(|_| TrainError::new("a reader of samples died"))??;
            if consume(batch)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(n: usize) -> Vec<Range<usize>> {
        (0..n).map(|i| 3 * i..3 * i + 3).collect()
    }

    fn collect(threads: usize, queue_batches: usize, stop: usize) -> Result<Vec<usize>, TrainError> {
        let mut seen = vec![];
        let make = |range: Range<usize>| {
            // The first ones take longest.
            std::thread::sleep(std::time::Duration::from_micros(((40 - range.start) * 20) as u64));
            if range.start == 24 { Err(TrainError::new("no such sample")) } else { Ok(range.start) }
        };
        for_each_batch(&ranges(13), Readers { threads, queue_batches }, &make, |batch| {
            seen.push(batch);
            Ok(if seen.len() == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(seen)
    }

    #[test]
    fn batches_come_in_order_whatever_the_threads_do() {
        for (threads, queue) in [(1, 1), (3, 1), (4, 9), (50, 2)] {
            assert_eq!(collect(threads, queue, 5).unwrap(), [0, 3, 6, 9, 12]);
        }
    }

    #[test]
    fn a_sample_that_cannot_be_read_ends_it_with_its_message() {
        assert_eq!(collect(3, 2, 100).unwrap_err().message, "no such sample");
    }
}
