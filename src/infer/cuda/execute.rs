//! A network on GPUs as the models of the flow run it.
//!
//! Owns: [`CudaExecute`]: which lane runs a batch, what happens when one cannot. Must not know: which network it is,
//! slides.
//!
//! Every GPU has two lanes, and whoever brings a batch takes one that is free. A batch that does not fit the memory is
//! halved, and so are all after it; where few images do not fit beside the other lane's, the GPU goes on with one lane. A
//! GPU that fails is given up, and its batch goes to another; when none is left the run ends, and what is done stays done.

use super::{
    devices,
    driver::DeviceError,
    lane::{Gpu, Lane, LaneError, Task},
    launch::Format,
    lower::{CudaNetwork, HeadForm},
};
use crate::{
    config::settings::Precision,
    infer::lock,
    model::{
        Execute, ExecuteOptions, HeadMap, HeadPlan, HeadValues, ModelError, ModelTile, OutputRows, graph::Graph,
        weights::Weights,
    },
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Whether wide convolutions are those of warpgroups: not before `benches/gpu.sh` has shown that they win.
const TAKES_WGMMA: bool = false;
/// Streams of a GPU: one computes while the other copies.
const LANES_PER_GPU: usize = 2;

/// Batches no larger than this are not halved as long as another lane of the GPU works.
const FEW_IMAGES: usize = 4;

/// A network on GPUs, for images of one kind.
pub struct CudaExecute {
    task: Arc<Task>,
    pool: Mutex<Pool>,
    free: Condvar,
    lanes: usize,
    /// The most images that fitted the memory at once.
    most: AtomicUsize,
}

/// Lanes that nobody uses, and how many each GPU has at all.
struct Pool {
    free: Vec<Lane>,
    alive: HashMap<usize, usize>,
}

impl CudaExecute {
    /// Opens GPUs and lowers the network for them; no number means all of them that can be used.
    ///
    /// # Errors
    /// [`ModelError`]: no GPU, a named one that cannot be used, weights that lack a tensor, a precision GPUs do not have.
    pub fn new(graph: &Graph, weights: &Weights, options: &ExecuteOptions, gpus: &[u32]) -> Result<Self, ModelError> {
        let count = devices::count().map_err(|e| ModelError(e.to_string()))?;
        let format = match options.precision {
            Precision::Bf16 => Format::Bf16,
            Precision::F32 => {
                return Err(ModelError("`precision` is `f32`, a GPU computes in `f16` or `bf16`".to_owned()));
            }
            Precision::Usual | Precision::Auto | Precision::F16 => Format::Half,
        };
        let network = CudaNetwork::new(graph, weights, format).map_err(|e| ModelError(e.to_string()))?;
        let (normalisation, kind) = (weights.metadata.normalisation, options.kind);
        let task = Arc::new(Task { network, normalisation, kind, wgmma: TAKES_WGMMA });
        let all: Vec<usize> = match gpus {
            [] => (0..count).collect(),
            named => named.iter().map(|n| *n as usize).collect(),
        };
        let (mut free, mut alive) = (vec![], HashMap::new());
        let mut unusable = vec![];
        for gpu in all {
            let gpu = match Gpu::open(gpu, &task) {
                Ok(gpu) => Arc::new(gpu),
                Err(why) if gpus.is_empty() => {
                    unusable.push(why.to_string());
                    continue;
                }
                Err(why) => return Err(ModelError(why.to_string())),
            };
            tracing::info!("gpu `{}`: {}", gpu.device().gpu(), gpu.device().name());
            alive.insert(gpu.device().gpu(), LANES_PER_GPU);
            for _ in 0..LANES_PER_GPU {
                free.push(Lane::new(&gpu).map_err(|e| ModelError(e.to_string()))?);
            }
        }
        if free.is_empty() {
            return Err(ModelError(unusable.join("; ")));
        }
        unusable.iter().for_each(|why| tracing::warn!("{why}: it is left out"));
        let lanes = free.len();
        let pool = Mutex::new(Pool { free, alive });
        Ok(Self { task, pool, free: Condvar::new(), lanes, most: AtomicUsize::new(usize::MAX) })
    }

    /// Waits for a lane.
    fn take(&self) -> Result<Lane, ModelError> {
        let mut pool = lock(&self.pool);
        loop {
            if let Some(lane) = pool.free.pop() {
                return Ok(lane);
            }
            if pool.alive.values().all(|lanes| *lanes == 0) {
                return Err(ModelError(
                    "no gpu is left that works; start again to go on with the slides not done".to_owned(),
                ));
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
    /// are to become what the network saw do.
    fn in_parts(
        &self,
        tiles: &mut [ModelTile<'_>],
        side_px: usize,
        heads: &[HeadForm],
        then: &mut dyn FnMut(usize, &super::lane::Results<'_>),
    ) -> Result<(), ModelError> {
        let mut first = 0;
        while first < tiles.len() {
            let most = self.most.load(Ordering::Relaxed).max(1);
            let count = (tiles.len() - first).min(most);
            let part = &mut tiles[first..][..count];
            let mut lane = self.take()?;
            lane.keep_at_most(most);
            match lane.run(part, side_px, heads) {
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
                Err(LaneError::Device(e @ DeviceError::Memory { .. })) => self.with_less_memory(lane, count, &e)?,
                Err(LaneError::Device(e @ DeviceError::Failed { .. })) => self.give_up(lane, &e),
                Err(e) => {
                    self.put_back(lane);
                    return Err(ModelError(e.to_string()));
                }
            }
        }
        Ok(())
    }
}

impl Execute for CudaExecute {
    fn run(&self, images: &[&[u8]], side_px: usize, sink: &(dyn Fn(OutputRows<'_>) + Sync)) -> Result<(), ModelError> {
        let mut tiles: Vec<ModelTile<'_>> = images.iter().map(|rgb| ModelTile::plain(rgb)).collect();
        self.check(&tiles, side_px)?;
        self.in_parts(&mut tiles, side_px, &[], &mut |first, results| {
            for image in 0..results.images() {
                for output in 0..results.heads() {
                    let (data, slot) = results.values(output, image);
                    let l = slot.layout;
                    let (pixel_stride, channel_stride) = (l.pixel_stride, 1);
                    let values =
                        HeadValues { data: &data, channels: l.c, h: l.h, w: l.w, pixel_stride, channel_stride };
                    sink(OutputRows { image: first + image, output, first_row: 0, values });
                }
            }
        })
    }

    fn run_to_maps(
        &self,
        tiles: &mut [ModelTile<'_>],
        side_px: usize,
        heads: &[HeadPlan],
        core_px: Option<u32>,
    ) -> Result<Option<Vec<Vec<HeadMap>>>, ModelError> {
        self.check(tiles, side_px)?;
        let forms: Vec<HeadForm> = heads.iter().map(|plan| HeadForm::new(plan, core_px)).collect();
        let mut all = vec![];
        self.in_parts(tiles, side_px, &forms, &mut |_, results| {
            for image in 0..results.images() {
                let map = |(i, plan): (usize, &HeadPlan)| {
                    let l = results.slot(plan.output).layout;
                    let [_, _, h, w] = forms[i].part(l.h, l.w);
                    let mut map = plan.blank(w, h);
                    results.map(i, image, &mut map.data);
                    map
                };
                all.push(heads.iter().enumerate().map(map).collect());
            }
        })?;
        Ok(Some(all))
    }

    fn makes_maps(&self) -> bool {
        true
    }

    fn batches_at_once(&self) -> usize {
        self.lanes
    }

    fn bytes(&self, side_px: usize, batch: usize) -> u64 {
        // Of the machine: weights for the way to the device, and pinned memory of each lane.
        let Ok(plan) = self.task.network.plan(side_px, side_px) else { return 0 };
        let heads: usize = plan.heads.iter().map(|head| 2 * head.slot.layout.h * head.slot.layout.row_stride).sum();
        (2 * plan.weight_bytes + self.lanes * batch * (side_px * side_px * 3 + heads)) as u64
    }
}

impl CudaExecute {
    fn check(&self, tiles: &[ModelTile<'_>], side_px: usize) -> Result<(), ModelError> {
        let expected = side_px * side_px * 3;
        if let Some(image) = tiles.iter().map(ModelTile::rgb).find(|image| image.len() != expected) {
            return Err(ModelError(format!(
                "image has the wrong size: `{}` bytes, expected `{expected}`",
                image.len()
            )));
        }
        if self.task.kind >= self.task.network.kinds() {
            return Err(ModelError(format!(
                "kind is `{}`, expected less than `{}`",
                self.task.kind,
                self.task.network.kinds()
            )));
        }
        Ok(())
    }
}
