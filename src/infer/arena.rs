//! Where buffers lie in one piece of memory.
//!
//! Owns: [`Buffer`], [`arrange`]. Must not know: what is in them.
//!
//! Largest first, each into the tightest gap between those that live at the same time and are placed already.

/// Buffers start at multiples of this many floats: a cache line.
const ALIGN_FLOATS: usize = 16;

/// A piece of the arena.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// First float in the arena.
    pub offset: usize,
    /// Length.
    pub floats: usize,
    /// First step that writes it.
    pub first_step: usize,
    /// Last step that reads or writes it; the number of steps where a head is read after all of them.
    pub last_step: usize,
    /// The buffer at whose beginning it lies, and whose contents move into it in its first step.
    pub within: Option<usize>,
}

impl Buffer {
    /// Whether both are needed at the same time.
    pub fn lives_with(&self, other: &Self) -> bool {
        self.first_step <= other.last_step && other.first_step <= self.last_step
    }
}

/// Sets every offset and returns the arena's length in floats.
pub(super) fn arrange(buffers: &mut [Buffer]) -> usize {
    let mut order: Vec<usize> =
        (0..buffers.len()).filter(|&i| buffers[i].floats > 0 && buffers[i].within.is_none()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].floats), buffers[i].first_step));
    let mut placed: Vec<usize> = vec![];
    for i in order {
        // What lies at its beginning has its place with it.
        let together: Vec<usize> = (0..buffers.len()).filter(|&j| j == i || buffers[j].within == Some(i)).collect();
        let taken = |&j: &usize| -> (usize, Vec<(usize, usize)>) {
            let others = placed.iter().map(|&other| &buffers[other]).filter(|other| other.lives_with(&buffers[j]));
            let mut taken: Vec<(usize, usize)> = others.map(|other| (other.offset, end(other))).collect();
            taken.sort_unstable();
            (buffers[j].floats, taken)
        };
        let offset = tightest_gap(&together.iter().map(taken).collect::<Vec<_>>());
        together.iter().for_each(|&j| buffers[j].offset = offset);
        placed.extend(together);
    }
    buffers.iter().map(end).max().unwrap_or(0)
}

fn end(buffer: &Buffer) -> usize {
    (buffer.offset + buffer.floats).next_multiple_of(ALIGN_FLOATS)
}

/// Start of the smallest gap that fits for all, or the end of all; each is its floats and what is taken, sorted.
fn tightest_gap(all: &[(usize, Vec<(usize, usize)>)]) -> usize {
    let ends = all.iter().flat_map(|(_, taken)| taken.iter().map(|&(_, end)| end));
    let mut starts: Vec<usize> = ends.chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    // What is left free behind it; of the gaps that are free to the end, the first.
    let room = |at: usize, (floats, taken): &(usize, Vec<(usize, usize)>)| {
        let next = taken.iter().filter(|&&(_, end)| end > at).map(|&(start, _)| start).min();
        next.map_or(Some(usize::MAX), |next| next.checked_sub(at + floats))
    };
    let gaps = starts.into_iter().filter_map(|at| {
        let rooms: Option<Vec<usize>> = all.iter().map(|one| room(at, one)).collect();
        Some((rooms?.into_iter().min()?, at))
    });
    gaps.min().map_or(0, |(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buffer((floats, first_step, length): (usize, usize, usize)) -> Buffer {
        Buffer { offset: 0, floats, first_step, last_step: first_step + length, within: None }
    }

    /// Floats, first step and how long: of a buffer, and of what is left of it then.
    type Part = ((usize, usize, usize), Option<(usize, usize)>);

    fn all(parts: Vec<Part>) -> Vec<Buffer> {
        let mut buffers = vec![];
        for (part, rest) in parts {
            let whole = buffer(part);
            let rest = rest.map(|(floats, length)| Buffer {
                within: Some(buffers.len()),
                ..buffer((floats.min(whole.floats), whole.last_step, length))
            });
            buffers.extend([whole].into_iter().chain(rest));
        }
        buffers
    }

    proptest! {
        #[test]
        fn buffers_that_live_together_do_not_overlap(
            parts in prop::collection::vec(
                ((1usize..5000, 0usize..40, 0usize..20), prop::option::of((1usize..3000, 0usize..20))), 1..60,
            ),
        ) {
            let mut buffers = all(parts);
            let arena = arrange(&mut buffers);
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(a.offset % ALIGN_FLOATS == 0 && a.offset + a.floats <= arena);
                for b in &buffers[i + 1..] {
                    if b.within == Some(i) {
                        prop_assert_eq!(a.offset, b.offset);
                        continue;
                    }
                    let apart = a.offset + a.floats <= b.offset || b.offset + b.floats <= a.offset;
                    prop_assert!(apart || !a.lives_with(b), "{a:?} and {b:?}");
                }
            }
        }
    }

    #[test]
    fn memory_is_used_again_and_the_tightest_gap_is_taken() {
        let mut chain: Vec<Buffer> = (0..10).map(|i| buffer((160, i, 1))).collect();
        assert_eq!(arrange(&mut chain), 320);
        let gap = |taken: &[(usize, usize)]| tightest_gap(&[(10, taken.to_vec())]);
        assert_eq!(gap(&[(100, 150), (180, 200), (210, 220)]), 200);
        assert_eq!(gap(&[(0, 160)]), 160);
        // The rest of one that is used up halfway leaves room for others.
        let mut shrinking = all(vec![((320, 0, 3), Some((32, 6))), ((280, 4, 5), None)]);
        assert_eq!(arrange(&mut shrinking), 320);
        assert_eq!(shrinking.iter().map(|b| b.offset).collect::<Vec<_>>(), [0, 0, 32]);
    }
}
