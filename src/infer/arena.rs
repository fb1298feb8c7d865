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
}

impl Buffer {
    /// Whether both are needed at the same time.
    pub fn lives_with(&self, other: &Self) -> bool {
        self.first_step <= other.last_step && other.first_step <= self.last_step
    }
}

/// Sets every offset and returns the arena's length in floats.
pub(super) fn arrange(buffers: &mut [Buffer]) -> usize {
    let mut order: Vec<usize> = (0..buffers.len()).filter(|&i| buffers[i].floats > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].floats), buffers[i].first_step));
    let mut placed: Vec<usize> = vec![];
    for i in order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .map(|&other| &buffers[other])
            .filter(|other| other.lives_with(&buffers[i]))
            .map(|other| (other.offset, end(other)))
            .collect();
        taken.sort_unstable();
        buffers[i].offset = tightest_gap(&taken, buffers[i].floats);
        placed.push(i);
    }
    buffers.iter().map(end).max().unwrap_or(0)
}

fn end(buffer: &Buffer) -> usize {
    (buffer.offset + buffer.floats).next_multiple_of(ALIGN_FLOATS)
}

/// Start of the smallest gap that `floats` fit in, or the end of all.
fn tightest_gap(taken: &[(usize, usize)], floats: usize) -> usize {
    let (mut free, mut best) = (0, None);
    for &(start, end) in taken {
        if start >= free + floats && best.is_none_or(|(_, room)| start - free < room) {
            best = Some((free, start - free));
        }
        free = free.max(end);
    }
    best.map_or(free, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buffer((floats, first_step, length): (usize, usize, usize)) -> Buffer {
        Buffer { offset: 0, floats, first_step, last_step: first_step + length }
    }

    proptest! {
        #[test]
        fn buffers_that_live_together_do_not_overlap(parts in prop::collection::vec((1usize..5000, 0usize..40, 0usize..20), 1..60)) {
            let mut buffers: Vec<Buffer> = parts.into_iter().map(buffer).collect();
            let arena = arrange(&mut buffers);
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(a.offset % ALIGN_FLOATS == 0 && a.offset + a.floats <= arena);
                for b in &buffers[i + 1..] {
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
        assert_eq!(tightest_gap(&[(100, 150), (180, 200), (210, 220)], 10), 200);
        assert_eq!(tightest_gap(&[(0, 160)], 10), 160);
    }
}
