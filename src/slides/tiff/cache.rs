//! The decoded tiles a slide was last asked for: regions with overlap touch a tile more than once.
//!
//! Owns: [`TileCache`]. Must not know: how tiles are decoded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A tile: its level, and its index within it.
pub(super) type TileKey = (u8, u64);

/// Least recently used out first; never more than `capacity_bytes`.
pub(super) struct TileCache {
    capacity_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    tiles: HashMap<TileKey, (Arc<Vec<u8>>, u64)>,
    by_age: BTreeMap<u64, TileKey>,
    clock: u64,
    held_bytes: usize,
    /// Buffers of tiles that were thrown out, for the next ones.
    spare: Vec<Vec<u8>>,
}

/// Buffers kept for reuse.
const SPARE_BUFFERS: usize = 8;

impl TileCache {
    pub(super) fn new(capacity_bytes: usize) -> Self {
        Self { capacity_bytes, inner: Mutex::default() }
    }

    /// The tile, if it is held.
    pub(super) fn get(&self, key: TileKey) -> Option<Arc<Vec<u8>>> {
        let inner = &mut *self.lock();
        let (tile, age) = inner.tiles.get_mut(&key)?;
        inner.clock += 1;
        inner.by_age.remove(age);
        inner.by_age.insert(inner.clock, key);
        *age = inner.clock;
        Some(Arc::clone(tile))
    }

    /// A buffer of `len` bytes of any content.
    pub(super) fn buffer(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.lock().spare.pop().unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    /// Holds the tile, and throws out older ones that no longer fit.
    pub(super) fn insert(&self, key: TileKey, tile: Vec<u8>) -> Arc<Vec<u8>> {
        let tile = Arc::new(tile);
        if tile.len() > self.capacity_bytes {
            return tile;
        }
        let inner = &mut *self.lock();
        inner.clock += 1;
        inner.held_bytes += tile.len();
        if let Some((old, age)) = inner.tiles.insert(key, (Arc::clone(&tile), inner.clock)) {
            inner.held_bytes -= old.len();
            inner.by_age.remove(&age);
        }
        inner.by_age.insert(inner.clock, key);
        while inner.held_bytes > self.capacity_bytes {
            let Some((_, oldest)) = inner.by_age.pop_first() else { break };
            let Some((old, _)) = inner.tiles.remove(&oldest) else { break };
            inner.held_bytes -= old.len();
            if let (Ok(buffer), true) = (Arc::try_unwrap(old), inner.spare.len() < SPARE_BUFFERS) {
                inner.spare.push(buffer);
            }
        }
        tile
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere cannot leave the books wrong in a way that matters: tiles are whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_tile_goes_first_and_bytes_stay_bounded() {
        let cache = TileCache::new(30);
        for i in 0..3 {
            cache.insert((0, i), vec![i as u8; 10]);
        }
        assert!(cache.get((0, 0)).is_some());
        cache.insert((0, 3), vec![3; 10]);
        assert!(cache.get((0, 1)).is_none());
        assert_eq!(cache.get((0, 0)).unwrap()[0], 0);
        cache.insert((0, 0), vec![9; 10]);
        assert_eq!(cache.get((0, 0)).unwrap()[0], 9);
        assert_eq!(cache.lock().held_bytes, 30);
        assert_eq!(cache.lock().by_age.len(), 3);
    }

    #[test]
    fn a_tile_larger_than_the_cache_is_given_but_not_held() {
        let cache = TileCache::new(5);
        assert_eq!(cache.insert((0, 0), vec![1; 10]).len(), 10);
        assert!(cache.get((0, 0)).is_none());
        assert_eq!(cache.lock().held_bytes, 0);
    }
}
