//! Batches of a network on one stream of a GPU.
//!
//! Owns: [`Gpu`], [`Lane`]: memory of batches, recorded launches. Must not know: who asks, other GPUs.
//!
//! A lane copies a batch in, runs it and copies the results out, in order. Two lanes of a GPU overlap these: one copies
//! while the other computes. What is started for a number of images is recorded the second time and replayed from then
//! on, so that a batch costs the processor one call.

use super::{
    buffer::{Buffer, Pinned},
    driver::{Device, DeviceError},
    launch::{Format, Region},
    lower::{Batch, CudaError, CudaNetwork, HeadForm, Launches},
    store::Store,
    stream::{Recording, Stream},
};
use crate::{
    infer::plan::{Plan, Slot},
    model::weights::Normalisation,
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
        self.task.network.launches(&plan, &self.batch(1, &[]), &mut store);
        let weights = Buffer::of(&self.device, store.bytes())?;
        let loaded = Arc::new(Loaded { plan, store: Mutex::new(store), weights });
        all.insert(side_px, loaded.clone());
        Ok(loaded)
    }

    fn batch<'a>(&'a self, images: usize, heads: &'a [HeadForm]) -> Batch<'a> {
        let cache_bytes = Some((self.device.cache_bytes() as f64 * CACHE_SHARE) as usize).filter(|bytes| *bytes > 0);
        let Task { normalisation, kind, .. } = &*self.task;
        Batch { images, kind: *kind, normalisation, stain: None, heads, cache_bytes }
    }
}

/// A stream and the memory of its batches.
pub struct Lane {
    gpu: Arc<Gpu>,
    // Before the stream: recordings and buffers go when nothing runs any more.
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
    /// By number of images.
    counted: HashMap<usize, Counted>,
}

/// What is started for a number of images.
struct Counted {
    launches: Launches,
    recording: Option<Recording>,
    runs: u32,
}

/// What a batch came to.
pub struct Results<'a> {
    bytes: &'a [u8],
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

    /// Runs a batch; with `heads`, makes these head maps.
    ///
    /// # Shapes
    /// - `images`: `N` times `[side_px, side_px, 3]` u8
    ///
    /// # Errors
    /// [`LaneError`]; after [`DeviceError::Memory`] fewer images may do.
    pub fn run(&mut self, images: &[&[u8]], side_px: usize, heads: &[HeadForm]) -> Result<Results<'_>, LaneError> {
        self.stream.enter()?;
        let count = images.len();
        let fits = self.rooms.get(&side_px).is_some_and(|room| room.most >= count && room.heads == heads);
        if !fits {
            // The old one's memory first.
            self.rooms.remove(&side_px);
            self.rooms.insert(side_px, Room::new(&self.gpu, side_px, count, heads)?);
        }
        let room = self.rooms.get_mut(&side_px).expect("was just put there");
        for (to, image) in room.images.bytes_mut().chunks_exact_mut(side_px * side_px * 3).zip(images) {
            to.copy_from_slice(image);
        }
        room.start(&self.gpu, &self.stream, count)?;
        self.stream.wait()?;
        let format = self.gpu.task.network.format();
        let launches = &room.counted[&count].launches;
        Ok(Results { bytes: room.results.bytes(), launches, format, images: count })
    }
}

impl Room {
    fn new(gpu: &Gpu, side_px: usize, most: usize, heads: &[HeadForm]) -> Result<Self, LaneError> {
        let loaded = gpu.loaded(side_px)?;
        let launches = launches(gpu, &loaded, most, heads);
        let mut buffers = HashMap::new();
        for (region, bytes) in Region::ALL.into_iter().zip(launches.region_bytes) {
            if region != Region::Weights {
                buffers.insert(region, Buffer::new(&gpu.device, bytes)?);
            }
        }
        let images = Pinned::new(&gpu.device, most * side_px * side_px * 3)?;
        let results = Pinned::new(&gpu.device, result_bytes(&launches, most))?;
        let counted = HashMap::from([(most, Counted { launches, recording: None, runs: 0 })]);
        Ok(Self { loaded, heads: heads.to_vec(), most, buffers, images, results, counted })
    }

    /// Starts a batch of `count` images, which lie in [`Room::images`].
    fn start(&mut self, gpu: &Gpu, stream: &Stream, count: usize) -> Result<(), LaneError> {
        if !self.counted.contains_key(&count) {
            let launches = launches(gpu, &self.loaded, count, &self.heads);
            self.counted.insert(count, Counted { launches, recording: None, runs: 0 });
        }
        let counted = &self.counted[&count];
        let (recording, runs) = (&counted.recording, counted.runs + 1);
        let recorded = match recording {
            Some(recording) => {
                // SAFETY: buffers and pinned memory are this room's, and stay until the lane was waited for.
                unsafe { stream.replay(recording) }?;
                None
            }
            // Once may be the end of a slide; twice is a habit.
            None if runs == 2 => {
                let recording = stream.record(|| self.enqueue(stream, &counted.launches, count))?;
                // SAFETY: as above.
                unsafe { stream.replay(&recording) }?;
                Some(recording)
            }
            None => {
                self.enqueue(stream, &counted.launches, count)?;
                None
            }
        };
        let counted = self.counted.get_mut(&count).expect("was just put there");
        counted.runs = runs;
        counted.recording = counted.recording.take().or(recorded);
        Ok(())
    }

    /// Copies in, launches, copies out.
    fn enqueue(&self, stream: &Stream, launches: &Launches, count: usize) -> Result<(), DeviceError> {
        let buffer = |region: Region| &self.buffers[&region];
        let bases = |region: Region| match region {
            Region::Weights => self.loaded.weights.address(),
            _ => buffer(region).address(),
        };
        let image_bytes = self.loaded.plan.h * self.loaded.plan.w * 3;
        // SAFETY: buffers are as large as the launches of the most images need, and fewer need no more; they and the
        // pinned memory stay until the lane was waited for.
        unsafe {
            stream.upload(&self.images, count * image_bytes, buffer(Region::Pixels))?;
            for launch in &launches.launches {
                stream.launch(launch, &bases)?;
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

fn launches(gpu: &Gpu, loaded: &Loaded, images: usize, heads: &[HeadForm]) -> Launches {
    let mut store = loaded.store.lock().unwrap_or_else(PoisonError::into_inner);
    let before = store.bytes().len();
    let launches = gpu.task.network.launches(&loaded.plan, &gpu.batch(images, heads), &mut store);
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
