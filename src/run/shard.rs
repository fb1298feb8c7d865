//! Which slides of a batch a task runs.
//!
//! Owns: [`Shard`], [`deal`]. Must not know: the environment. The total is always said: were it derived from what the
//! scheduler tells, slides would move between shards when only some tasks are submitted again.

use super::list::ListedSlide;
use std::{cmp::Reverse, collections::BinaryHeap, fmt, str::FromStr};

/// One of `count` parts, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which, from 1.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

/// Most parts of a batch.
const MAX_SHARDS: u32 = 100_000;

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index >= 1 && index <= count && count <= MAX_SHARDS => Ok(Self { index, count }),
            _ => Err(format!("found `{text}`, expected `<task>/<tasks>`, counted from 1, such as `3/16`")),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// For each slide, the shard (from 1) that runs it.
///
/// The slide with the most work first, each to the shard that has the least so far (Graham 1969, "Bounds on
/// multiprocessing timing anomalies": at most 4/3 of the best deal); equals by id, equal shards by number. Depends on
/// the list alone, not on its order.
pub fn deal(slides: &[ListedSlide], count: u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..slides.len()).collect();
    order.sort_by(|&a, &b| slides[b].work.cmp(&slides[a].work).then_with(|| slides[a].id.cmp(&slides[b].id)));
    let mut least: BinaryHeap<Reverse<(u64, u32)>> = (1..=count.max(1)).map(|shard| Reverse((0, shard))).collect();
    let mut shards = vec![0; slides.len()];
    for at in order {
        let Reverse((load, shard)) = least.pop().expect("there is at least one shard");
        shards[at] = shard;
        // A slide of no work counts a little: slides that nothing is known of are spread, too.
        least.push(Reverse((load.saturating_add(slides[at].work.max(1)), shard)));
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slides(work: &[u64]) -> Vec<ListedSlide> {
        let slide = |(i, &work): (usize, &u64)| ListedSlide {
            id: format!("s{i:04}"),
            path: String::new(),
            synthetic: None,
            work,
        };
        work.iter().enumerate().map(slide).collect()
    }

    proptest! {
        #[test]
        fn shards_are_disjoint_complete_balanced_and_do_not_depend_on_order(
            work in proptest::collection::vec(0_u64..1_000_000, 0..200),
            count in 1_u32..40,
            turn in 0_usize..200,
        ) {
            let all = slides(&work);
            let dealt = deal(&all, count);
            // Every slide has exactly one shard of those there are.
            prop_assert!(dealt.len() == all.len() && dealt.iter().all(|&s| (1..=count).contains(&s)));
            let load = |shard: u32| -> u64 { all.iter().zip(&dealt).filter(|(_, s)| **s == shard).map(|(x, _)| x.work.max(1)).sum() };
            let loads: Vec<u64> = (1..=count).map(load).collect();
            let largest = work.iter().copied().max().unwrap_or(0).max(1);
            let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            prop_assert!(most - least <= largest);
            let mut turned = all.clone();
            turned.rotate_left(turn % all.len().max(1));
            let again = deal(&turned, count);
            for (slide, shard) in turned.iter().zip(again) {
                prop_assert_eq!(dealt[all.iter().position(|s| s == slide).unwrap()], shard);
            }
        }
    }

    #[test]
    fn a_shard_is_read_as_it_is_written_and_nonsense_is_refused() {
        assert_eq!("3/16".parse(), Ok(Shard { index: 3, count: 16 }));
        assert_eq!("3/16".parse::<Shard>().unwrap().to_string(), "3/16");
        for bad in ["", "3", "0/4", "5/4", "-1/4", "3/", "/4", "a/b", "1/0", "1/999999999"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
