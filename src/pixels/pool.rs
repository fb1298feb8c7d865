//! A fixed number of tile buffers: what bounds the memory of a run.
//!
//! Owns: [`BufferPool`], [`PooledBuf`]. Must not know: tiles. A reader that finds no buffer waits, which is how a
//! slow disk or model slows reading down.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::ops::{Deref, DerefMut};

/// `count` buffers of `bytes` each, lent one at a time.
#[derive(Clone)]
pub struct BufferPool {
    free: Receiver<Vec<u8>>,
    give: Sender<Vec<u8>>,
    bytes: usize,
}

/// A buffer that goes home when dropped, from any thread, on any path.
pub struct PooledBuf {
    data: Vec<u8>,
    give: Sender<Vec<u8>>,
}

impl BufferPool {
    /// A pool of `count` buffers; each is allocated when first used.
    pub fn new(count: usize, bytes: usize) -> Self {
        let (give, free) = bounded(count);
        for _ in 0..count {
            give.send(Vec::new()).expect("the queue has room for every buffer");
        }
        Self { free, give, bytes }
    }

    /// Waits for a buffer.
    pub fn acquire(&self) -> PooledBuf {
        let mut data = self.free.recv().expect("the pool keeps a sender of its own queue");
        data.resize(self.bytes, 0);
        PooledBuf { data, give: self.give.clone() }
    }

    /// Buffers at home.
    pub fn idle(&self) -> usize {
        self.free.len()
    }
}

impl Deref for PooledBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.data
    }
}

impl DerefMut for PooledBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        // The queue holds exactly as many as were lent, so this never blocks and only fails once the pool is gone.
        let _ = self.give.try_send(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_comes_home() {
        let pool = BufferPool::new(3, 16);
        let held: Vec<_> = (0..3).map(|_| pool.acquire()).collect();
        assert_eq!(pool.idle(), 0);
        assert!(held.iter().all(|b| b.len() == 16));
        drop(held);
        assert_eq!(pool.idle(), 3);
    }
}
