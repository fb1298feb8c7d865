//! Runs by the object they belong to.
//!
//! Owns: [`GroupedRuns`]. Must not know: what the objects are.

use super::instance::Run;

/// Runs that arrive in raster order, each with the number of its object, sorted by object.
#[derive(Default)]
pub(super) struct GroupedRuns {
    found: Vec<(u32, Run)>,
    /// End of each object's runs in `sorted`.
    ends: Vec<u32>,
    sorted: Vec<Run>,
}

impl GroupedRuns {
    /// Forgets all runs.
    pub(super) fn clear(&mut self) {
        self.found.clear();
        self.ends.clear();
    }

    /// Adds a run of object `number`.
    #[inline]
    pub(super) fn push(&mut self, number: u32, run: Run) {
        self.found.push((number, run));
    }

    /// Sorts the runs by object, raster order kept; `numbers` is more than the largest number.
    pub(super) fn group(&mut self, numbers: usize) {
        self.ends.clear();
        self.ends.resize(numbers, 0);
        for (number, _) in &self.found {
            self.ends[*number as usize] += 1;
        }
        let mut total = 0;
        for end in &mut self.ends {
            total += std::mem::replace(end, total);
        }
        self.sorted.clear();
        self.sorted.resize(self.found.len(), Run { y: 0, x0: 0, x1: 0 });
        for &(number, run) in &self.found {
            let at = &mut self.ends[number as usize];
            self.sorted[*at as usize] = run;
            *at += 1;
        }
    }

    /// The runs of object `number`, after [`GroupedRuns::group`].
    pub(super) fn of(&mut self, number: usize) -> &mut [Run] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &mut self.sorted[start..self.ends[number] as usize]
    }
}
