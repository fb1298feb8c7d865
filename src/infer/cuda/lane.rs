//! Batches of a network on one stream of a GPU.
//!
//! Owns: [`Gpu`], [`Lane`]: memory of batches, recorded launches. Must not know: who asks, other GPUs.
//!
//! What crosses the bus of a tile: 3 bytes per px in, 2 bytes per channel and px of the wanted middle out, 3 more where
//! somebody wants the normalised colours. Of HoVer-Net fast (9 channels kept, 164 of 256 px) that is 0.29 GB out per mm² at
//! 0.25 µm/px: 6 ms at the 50 GB/s of PCIe 5, beside 180 ms of products at an H100's peak rate (595 tiles of 149 GMACs), and
//! on the other lane. So tiles' maps are blended where slides live, on the processor: a canvas on the device would save a
//! part of these 6 ms, which nobody waits for, and would be needed per slide and GPU, though any GPU takes any tile. What
//! pays is to leave the margins behind, which also spares the processor a copy of each map. For the same reason nuclei are
//! found on the processor: their energy and markers need blended regions with a halo, so NP and HV (6 bytes per px) would go
//! back and energy and markers (8 bytes) come again, 0.22 GB per mm² for a stage that other cores do meanwhile.

use super::{
    buffer::{Buffer, Pinned},
    driver::{Device, DeviceError},
    launch::{Format, Region},
    lower::{Batch, CudaError, CudaNetwork, HeadForm, Launches, StainPass},
    share::Chip,
    stains::Stains,
    store::Store,
    stream::{Recording, Stream},
};
use crate::{
    infer::plan::{Plan, Slot},
    model::{ModelTile, weights::Normalisation},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Share of the second-level cache that maps may take; weights need the rest.
const CACHE_SHARE: f64 = 0.6;

/// Why a batch was not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The network.
    #[error(transparent)]
    Network(#[from] CudaError),
    /// The GPU.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What all batches of a run have in common.
#[derive(Debug)]
pub struct Task {
    /// The network.
    pub network: CudaNetwork,
    /// How bytes are normalised.
    pub normalisation: Normalisation,
    /// The row of every embedding.
    pub kind: usize,
    /// Whether wide convolutions are those of warpgroups, where the device has them.
    pub wgmma: bool,
}

/// A GPU with the weights it was given.
pub struct Gpu {
    device: Arc<Device>,
    task: Arc<Task>,
    /// By side of the images.
    loaded: Mutex<HashMap<usize, Arc<Loaded>>>,
}

/// A plan and its weights on the device.
struct Loaded {
    plan: Plan,
    store: Mutex<Store>,
    weights: Buffer,
}

impl Gpu {
    /// Opens a GPU for a network.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn open(gpu: usize, task: &Arc<Task>) -> Result<Self, DeviceError> {
        let device = Arc::new(Device::open(gpu, task.network.format())?);
        Ok(Self { device, task: task.clone(), loaded: Mutex::default() })
    }

    /// The device.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The plan for images of this side, with its weights where they are needed.
    fn loaded(&self, side_px: usize) -> Result<Arc<Loaded>, LaneError> {
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = all.get(&side_px) {
            return Ok(loaded.clone());
        }
        let plan = self.task.network.plan(side_px, side_px)?;
        let mut store = self.task.network.store();
        // What lies in the store does not depend on how many images there are.
        self.task.network.launches(&plan, &self.batch(1, &[], None), &mut store);
        let weights = Buffer::of(&self.device, store.bytes())?;
        let loaded = Arc::new(Loaded { plan, store: Mutex::new(store), weights });
        all.insert(side_px, loaded.clone());
        Ok(loaded)
    }

    fn batch<'a>(&'a self, images: usize, heads: &'a [HeadForm], stain: Option<StainPass>) -> Batch<'a> {
        let cache_bytes = (self.device.cache_bytes() as f64 * CACHE_SHARE) as usize;
        let chip = Chip { cache_bytes, multiprocessors: self.device.multiprocessors() };
        let chip = Some(chip).filter(|chip| chip.cache_bytes > 0);
        let Task { normalisation, kind, .. } = &*self.task;
        let wgmma = self.task.wgmma && self.device.has_wgmma();
        Batch { images, kind: *kind, normalisation, stain, heads, chip, wgmma }
    }
}

/// A stream and the memory of its batches.
pub struct Lane {
    gpu: Arc<Gpu>,
    rooms: HashMap<usize, Room>,
    stream: Stream,
}

/// Memory for batches of images of one side.
struct Room {
    loaded: Arc<Loaded>,
    heads: Vec<HeadForm>,
    /// The most images it holds.
    most: usize,
    /// Arena, pixels, partial results, head maps.
    buffers: HashMap<Region, Buffer>,
    images: Pinned,
    results: Pinned,
    /// Stain normalisation, once a batch asked for it.
    stains: Option<Stains>,
    /// By number of images and what is done to their colours.
    counted: HashMap<Shape, Counted>,
}

/// What makes the launches of two batches the same.
type Shape = (usize, Option<StainPass>);

/// What is started for a number of images.
struct Counted {
    launches: Launches,
    recording: Option<Recording>,
    runs: u32,
}

/// What a batch came to.
pub struct Results<'a> {
    bytes: &'a [u8],
    /// The images, as the network saw them if that was kept.
    seen: &'a [u8],
    launches: &'a Launches,
    format: Format,
    images: usize,
}

impl Lane {
    /// A lane of a GPU.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn new(gpu: &Arc<Gpu>) -> Result<Self, DeviceError> {
        Ok(Self { gpu: gpu.clone(), rooms: HashMap::new(), stream: Stream::new(gpu.device())? })
    }

    /// The GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Gives back memory that is held for batches of more than `images`.
    pub fn keep_at_most(&mut self, images: usize) {
        self.rooms.retain(|_, room| room.most <= images);
    }

    /// Runs a batch; with `heads`, makes these head maps.
    ///
    /// # Shapes
    /// - `tiles`: `N` times `[side_px, side_px, 3]` u8
    ///
    /// # Errors
    /// [`LaneError`]; after [`DeviceError::Memory`] fewer images may do.
    pub fn run(
        &mut self,
        tiles: &mut [ModelTile<'_>],
        side_px: usize,
        heads: &[HeadForm],
    ) -> Result<Results<'_>, LaneError> {
        self.stream.enter()?;
        let count = tiles.len();
        let fits = self.rooms.get(&side_px).is_some_and(|room| room.most >= count && room.heads == heads);
        if !fits {
            // The old one's memory first.
            self.rooms.remove(&side_px);
            self.rooms.insert(side_px, Room::new(&self.gpu, side_px, count, heads)?);
        }
        let room = self.rooms.get_mut(&side_px).expect("was just put there");
        for (to, tile) in room.images.bytes_mut().chunks_exact_mut(side_px * side_px * 3).zip(&*tiles) {
            to.copy_from_slice(tile.rgb());
        }
        let shape = (count, room.take_stains(&self.gpu, &self.stream, tiles)?);
        room.start(&self.gpu, &self.stream, shape)?;
        self.stream.wait()?;
        let format = self.gpu.task.network.format();
        let launches = &room.counted[&shape].launches;
        Ok(Results { bytes: room.results.bytes(), seen: room.images.bytes(), launches, format, images: count })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // A batch of which a part was started and another refused may still run; after that recordings and buffers go.
        // An error on the way out helps nobody.
        let _ = self.stream.enter().and_then(|()| self.stream.wait());
    }
}

impl Room {
    fn new(gpu: &Gpu, side_px: usize, most: usize, heads: &[HeadForm]) -> Result<Self, LaneError> {
        let loaded = gpu.loaded(side_px)?;
        let launches = launches(gpu, &loaded, (most, None), heads);
        let mut buffers = HashMap::new();
        for (region, bytes) in Region::ALL.into_iter().zip(launches.region_bytes) {
            if !matches!(region, Region::Weights | Region::Stain) {
                buffers.insert(region, Buffer::new(&gpu.device, bytes)?);
            }
        }
        let images = Pinned::new(&gpu.device, most * side_px * side_px * 3)?;
        let results = Pinned::new(&gpu.device, result_bytes(&launches, most))?;
        let counted = HashMap::from([((most, None), Counted { launches, recording: None, runs: 0 })]);
        Ok(Self { loaded, heads: heads.to_vec(), most, buffers, images, results, stains: None, counted })
    }

    /// Brings the tables that these tiles need to the device; what is to be done, if anything.
    fn take_stains(
        &mut self,
        gpu: &Gpu,
        stream: &Stream,
        tiles: &mut [ModelTile<'_>],
    ) -> Result<Option<StainPass>, LaneError> {
        if tiles.iter().all(|tile| tile.stain.is_none()) {
            return Ok(None);
        }
        let is_kept = tiles.iter_mut().any(|tile| tile.seen().is_some());
        let stains = match &mut self.stains {
            Some(stains) => stains,
            none => none.insert(Stains::new(&gpu.device, self.most)?),
        };
        stains.take(stream, tiles)?;
        Ok(Some(StainPass { tables: self.most, is_kept }))
    }

    /// Starts a batch whose images lie in [`Room::images`].
    fn start(&mut self, gpu: &Gpu, stream: &Stream, shape: Shape) -> Result<(), LaneError> {
        if !self.counted.contains_key(&shape) {
            let launches = launches(gpu, &self.loaded, shape, &self.heads);
            self.counted.insert(shape, Counted { launches, recording: None, runs: 0 });
        }
        let counted = &self.counted[&shape];
        let (recording, runs) = (&counted.recording, counted.runs + 1);
        let recorded = match recording {
            Some(recording) => {
                // SAFETY: buffers and pinned memory are this room's, and stay until the lane was waited for.
                unsafe { stream.replay(recording) }?;
                None
            }
            // Once may be the end of a slide; twice is a habit.
            None if runs == 2 => match stream.record(|| self.enqueue(stream, &counted.launches, shape))? {
                Some(recording) => {
                    // SAFETY: as above.
                    unsafe { stream.replay(&recording) }?;
                    Some(recording)
                }
                None => {
                    self.enqueue(stream, &counted.launches, shape)?;
                    None
                }
            },
            None => {
                self.enqueue(stream, &counted.launches, shape)?;
                None
            }
        };
        let counted = self.counted.get_mut(&shape).expect("was just put there");
        counted.runs = runs;
        counted.recording = counted.recording.take().or(recorded);
        Ok(())
    }

    /// Copies in, launches, copies out.
    fn enqueue(&self, stream: &Stream, launches: &Launches, (count, stain): Shape) -> Result<(), DeviceError> {
        let buffer = |region: Region| &self.buffers[&region];
        let bases = |region: Region| match region {
            Region::Weights => self.loaded.weights.address(),
            Region::Stain => self.stains.as_ref().map_or(0, Stains::address),
            _ => buffer(region).address(),
        };
        let image_bytes = self.loaded.plan.h * self.loaded.plan.w * 3;
        // SAFETY: buffers are as large as the launches of the most images need, and fewer need no more; they and the
        // pinned memory stay until the lane was waited for.
        unsafe {
            stream.upload((&self.images, 0), (buffer(Region::Pixels), 0), count * image_bytes)?;
            if let Some(stains) = self.stains.as_ref().filter(|_| stain.is_some()) {
                stains.upload_numbers(stream, count)?;
            }
            for launch in &launches.launches {
                stream.launch(launch, &bases)?;
            }
            if stain.is_some_and(|pass| pass.is_kept) {
                // Where the images came from: nobody reads them there any more.
                stream.download((buffer(Region::Pixels), 0), (&self.images, 0), count * image_bytes)?;
            }
            if !self.heads.is_empty() {
                let bytes = launches.region_bytes[4];
                return stream.download((buffer(Region::Heads), 0), (&self.results, 0), bytes);
            }
            let mut at = 0;
            for image in 0..count {
                for slot in &launches.heads {
                    let first = 2 * (image * launches.arena_numbers + slot.offset);
                    let bytes = slot_bytes(slot);
                    stream.download((buffer(Region::Arena), first), (&self.results, at), bytes)?;
                    at += bytes;
                }
            }
        }
        Ok(())
    }
}

fn launches(gpu: &Gpu, loaded: &Loaded, (images, stain): Shape, heads: &[HeadForm]) -> Launches {
    let mut store = loaded.store.lock().unwrap_or_else(PoisonError::into_inner);
    let before = store.bytes().len();
    let launches = gpu.task.network.launches(&loaded.plan, &gpu.batch(images, heads, stain), &mut store);
    assert_eq!(store.bytes().len(), before, "weights do not depend on the number of images");
    launches
}

/// Bytes from a head's first value to behind its last pixel.
fn slot_bytes(slot: &Slot) -> usize {
    2 * slot.layout.h * slot.layout.row_stride
}

fn result_bytes(launches: &Launches, images: usize) -> usize {
    launches.region_bytes[4].max(images * launches.heads.iter().map(slot_bytes).sum::<usize>())
}

impl Results<'_> {
    /// Number of images.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.launches.heads.len()
    }

    /// The pixels of an image, as the network saw them if that was kept.
    pub fn seen(&self, image: usize) -> &[u8] {
        let bytes = self.launches.region_bytes[2] / self.images;
        &self.seen[image * bytes..][..bytes]
    }

    /// Where a head lies in an image's arena.
    pub fn slot(&self, head: usize) -> Slot {
        self.launches.heads[head]
    }

    /// Map `form` of those asked for, of an image: `[channels, h, w]`.
    pub fn map(&self, form: usize, image: usize, to: &mut [i16]) {
        let first = self.launches.map_offsets[form] + 2 * image * to.len();
        for (to, bytes) in to.iter_mut().zip(self.bytes[first..].chunks_exact(2)) {
            *to = i16::from_le_bytes([bytes[0], bytes[1]]);
        }
    }

    /// Values of a head of an image, where no maps were asked for: `[h, w, pixel_stride]` and their slot.
    pub fn values(&self, head: usize, image: usize) -> (Vec<f32>, Slot) {
        let heads = &self.launches.heads;
        let one: usize = heads.iter().map(slot_bytes).sum();
        let first = image * one + heads[..head].iter().map(slot_bytes).sum::<usize>();
        let bytes = &self.bytes[first..][..slot_bytes(&heads[head])];
        let value = |b: &[u8]| self.format.value(u16::from_le_bytes([b[0], b[1]]));
        (bytes.chunks_exact(2).map(value).collect(), heads[head])
    }
}
