//! Region buffers that were used, to be used again.
//!
//! Owns: [`RegionPool`]. Must not know: threads' roles. A region is some 10 MB; asking the system for it afresh each
//! time costs a page fault per 4 kB and leaves holes in the heap.

use crate::stitch::Region;
use std::sync::{Mutex, PoisonError};

/// Used regions, at most `most` of them.
#[derive(Debug)]
pub struct RegionPool {
    spare: Mutex<Vec<Region>>,
    most: usize,
}

impl RegionPool {
    /// Keeps at most `most` regions.
    pub fn new(most: usize) -> Self {
        Self { spare: Mutex::new(vec![]), most }
    }

    /// Takes back a region nobody needs any more.
    pub fn give(&self, region: Region) {
        // A panic elsewhere leaves a list that is still right.
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < self.most {
            spare.push(region);
        }
    }

    /// Frees the regions kept: for when a slide has been through and what comes next needs memory of other sizes.
    pub fn clear(&self) {
        let spare = std::mem::take(&mut *self.spare.lock().unwrap_or_else(PoisonError::into_inner));
        // Outside the lock: some 10 MB each go back to the system.
        drop(spare);
    }

    /// A used region, if there is one; its content is unspecified.
    pub(super) fn take(&self) -> Option<Region> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}
