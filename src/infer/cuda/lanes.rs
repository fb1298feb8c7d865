//! The lanes of all GPUs, and what happens when one cannot run a batch.
//!
//! Owns: [`Lanes`]. Must not know: what becomes of results.
//!
//! Every GPU has two lanes, and whoever brings a batch takes one that is free. A batch that does not fit the memory is
//! halved, and so are all after it; where few images do not fit beside the other lane's, the GPU goes on with one lane. A
//! GPU that fails is given up, and its batch goes to another; when none is left the run ends, and what is done stays done.

use super::{
    driver::{Device, DeviceError},
    gpu::{Gpu, Task},
    lane::{Lane, LaneError, Results},
    lower::HeadForm,
    spots::Adding,
};
use crate::{
    infer::lock,
    model::{ModelError, ModelTile},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Streams of a GPU: one computes while the other copies.
const LANES_PER_GPU: usize = 2;

/// Batches no larger than this are not halved as long as another lane of the GPU works.
const FEW_IMAGES: usize = 4;

/// What is said when all have failed.
const NONE_LEFT: &str = "no gpu is left that works; start again to go on with the slides not done";

/// All lanes.
pub(super) struct Lanes {
    pool: Mutex<Pool>,
    free: Condvar,
    count: usize,
    /// The GPU, if it is the only one.
    only: Option<Arc<Device>>,
    /// The most images that fitted the memory at once.
    most: AtomicUsize,
}

/// Lanes that nobody uses, and how many each GPU has at all.
struct Pool {
    free: Vec<Lane>,
    alive: HashMap<usize, usize>,
}

impl Lanes {
    /// Opens GPUs `all`; one that cannot be used is left out, unless it `is_named`.
    pub(super) fn new(all: &[usize], task: &Arc<Task>, is_named: bool) -> Result<Self, ModelError> {
        let (mut free, mut alive) = (vec![], HashMap::new());
        let (mut unusable, mut devices) = (vec![], vec![]);
        for &gpu in all {
            let gpu = match Gpu::open(gpu, task) {
                Ok(gpu) => Arc::new(gpu),
                Err(why) if !is_named => {
                    unusable.push(why.to_string());
                    continue;
                }
                Err(why) => return Err(ModelError(why.to_string())),
            };
            tracing::info!("gpu `{}`: {}", gpu.device().gpu(), gpu.device().name());
            alive.insert(gpu.device().gpu(), LANES_PER_GPU);
            devices.push(gpu.device().clone());
            for _ in 0..LANES_PER_GPU {
                free.push(Lane::new(&gpu).map_err(|e| ModelError(e.to_string()))?);
            }
        }
        if free.is_empty() {
            return Err(ModelError(unusable.join("; ")));
        }
        unusable.iter().for_each(|why| tracing::warn!("{why}: it is left out"));
        let count = free.len();
        let only = devices.pop().filter(|_| devices.is_empty());
        let pool = Mutex::new(Pool { free, alive });
        Ok(Self { pool, free: Condvar::new(), count, only, most: AtomicUsize::new(usize::MAX) })
    }

    /// How many there are at first.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The GPU, if it is the only one.
    pub(super) fn only(&self) -> Option<&Arc<Device>> {
        self.only.as_ref()
    }

    /// Waits for a lane.
    fn take(&self) -> Result<Lane, ModelError> {
        let mut pool = lock(&self.pool);
        loop {
            if let Some(lane) = pool.free.pop() {
                return Ok(lane);
            }
            if pool.alive.values().all(|lanes| *lanes == 0) {
                return Err(ModelError(NONE_LEFT.to_owned()));
            }
            pool = self.free.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put_back(&self, lane: Lane) {
        lock(&self.pool).free.push(lane);
        self.free.notify_one();
    }

    /// Gives a lane up, and those of its GPU that are free; others will see for themselves.
    fn give_up(&self, lane: Lane, why: &DeviceError) {
        tracing::warn!("{why}; its batch goes to another gpu, if there is one");
        let mut pool = lock(&self.pool);
        let gpu = lane.gpu().device().gpu();
        let before = pool.free.len();
        pool.free.retain(|other| other.gpu().device().gpu() != gpu);
        let gone = before - pool.free.len() + 1;
        if let Some(lanes) = pool.alive.get_mut(&gpu) {
            *lanes = lanes.saturating_sub(gone);
        }
        drop(pool);
        self.free.notify_all();
    }

    /// What is done where `count` images did not fit the memory: fewer from now on, or one lane less.
    fn with_less_memory(&self, mut lane: Lane, count: usize, why: &DeviceError) -> Result<(), ModelError> {
        let mut pool = lock(&self.pool);
        let gpu = lane.gpu().device().gpu();
        let is_last = pool.alive.get(&gpu).is_none_or(|lanes| *lanes <= 1);
        let half = count / 2;
        if is_last && half == 0 {
            pool.free.push(lane);
            return Err(ModelError(why.to_string()));
        }
        if is_last || count > FEW_IMAGES {
            if self.most.fetch_min(half, Ordering::Relaxed) > half {
                tracing::warn!("{why}: batches of `{count}` images are run as `{half}` at a time");
            }
            // Others hold memory for batches that will not come again.
            pool.free.iter_mut().filter(|l| l.gpu().device().gpu() == gpu).for_each(|l| l.keep_at_most(half));
            lane.keep_at_most(half);
            pool.free.push(lane);
        } else {
            tracing::warn!("{why}: it goes on with one stream less");
            pool.alive.entry(gpu).and_modify(|lanes| *lanes -= 1);
        }
        drop(pool);
        self.free.notify_all();
        Ok(())
    }

    /// Runs a batch in as many parts as it takes; `then` is given each part's first image and its results. Tiles that
    /// are to become what the network saw do. With `adding`, what is said of each is added once, whatever happens.
    pub(super) fn in_parts(
        &self,
        tiles: &mut [ModelTile<'_>],
        side_px: usize,
        (heads, adding): (&[HeadForm], Option<Adding<'_>>),
        then: &mut dyn FnMut(usize, &Results<'_>),
    ) -> Result<(), ModelError> {
        let mut first = 0;
        while first < tiles.len() {
            let most = self.most.load(Ordering::Relaxed).max(1);
            let count = (tiles.len() - first).min(most);
            let part = &mut tiles[first..][..count];
            let mut lane = self.take()?;
            lane.keep_at_most(most);
            match lane.run(part, side_px, heads, adding.map(|all| all.part(first, count))) {
                Ok(results) => {
                    then(first, &results);
                    for (i, tile) in part.iter_mut().enumerate() {
                        if let Some(to) = tile.seen() {
                            to.copy_from_slice(results.seen(i));
                        }
                    }
                    first += part.len();
                    self.put_back(lane);
                }
                Err(LaneError::Device(e @ DeviceError::Memory { .. })) => {
                    // Memory is asked for before anything is started: nothing of the part was added.
                    adding.iter().for_each(|adding| adding.blocks.forget_spare());
                    self.with_less_memory(lane, count, &e).map_err(|e| match adding {
                        Some(_) => ModelError(format!("{e}; `stitch: {{ on_device: false }}` takes less of it")),
                        None => e,
                    })?;
                }
                Err(LaneError::Device(e @ DeviceError::Failed { .. })) => {
                    self.give_up(lane, &e);
                    // Nobody knows how much of it was added, and the sums are on that GPU.
                    if adding.is_some() {
                        return Err(ModelError(NONE_LEFT.to_owned()));
                    }
                }
                Err(e) => {
                    self.put_back(lane);
                    return Err(ModelError(e.to_string()));
                }
            }
        }
        Ok(())
    }
}
