//! Runs of equal values in a row of a class map.
//!
//! Owns: [`Stretch`], [`scan`]. Must not know: other rows.

/// Class value of a pixel that was not computed.
pub(super) const NOT_COMPUTED: u8 = 255;
/// No component, no node.
pub(super) const NONE: u32 = u32::MAX;

/// One run of equal values, not 0, of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) x0: u32,
    pub(super) x1: u32,
    pub(super) class: u8,
    pub(super) component: u32,
}

/// The runs of equal values, not 0, of a row.
pub(super) fn scan(classes: &[u8], stretches: &mut Vec<Stretch>) {
    stretches.clear();
    let (mut start, mut class) = (0, classes.first().copied().unwrap_or(0));
    let mut turn = |x: usize, next: u8| {
        if class != 0 {
            stretches.push(Stretch { x0: start, x1: x as u32, class, component: NONE });
        }
        (start, class) = (x as u32, next);
    };
    // Where a value differs from the one before it: whole words first.
    const STEP: usize = 32;
    let mut x = 1;
    while x + STEP <= classes.len() {
        let (before, here) = (&classes[x - 1..x - 1 + STEP], &classes[x..x + STEP]);
        if before != here {
            for word in (0..STEP).step_by(8) {
                let load = |bytes: &[u8]| u64::from_le_bytes(bytes[word..word + 8].try_into().expect("eight bytes"));
                let differ = load(before) ^ load(here);
                // The highest bit of each byte that is not zero.
                const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
                let mut marks = (((differ & LOW) + LOW) | differ) & !LOW;
                while marks != 0 {
                    let at = x + word + marks.trailing_zeros() as usize / 8;
                    turn(at, classes[at]);
                    marks &= marks - 1;
                }
            }
        }
        x += STEP;
    }
    for at in x..classes.len() {
        if classes[at] != classes[at - 1] {
            turn(at, classes[at]);
        }
    }
    turn(classes.len(), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stretches_give_the_row_back(
            lengths in prop::collection::vec((1_usize..70, prop::sample::select(vec![0_u8, 1, 2, 127, 128, 254, 255])), 0..30)
        ) {
            let row: Vec<u8> = lengths.iter().flat_map(|&(n, class)| std::iter::repeat_n(class, n)).collect();
            let mut stretches = Vec::new();
            scan(&row, &mut stretches);
            let mut again = vec![0; row.len()];
            for s in &stretches {
                prop_assert!(s.x0 < s.x1 && s.class != 0);
                again[s.x0 as usize..s.x1 as usize].fill(s.class);
            }
            prop_assert_eq!(again, row);
            for pair in stretches.windows(2) {
                prop_assert!(pair[0].x1 < pair[1].x0 || (pair[0].x1 == pair[1].x0 && pair[0].class != pair[1].class));
            }
        }
    }
}
