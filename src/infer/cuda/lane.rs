//! Batches of a network on one stream of a GPU.
//!
//! Owns: [`Lane`]: memory of batches, recorded launches. Must not know: who asks, other GPUs.
//!
//! What crosses the bus of a tile: 3 bytes per px in, 2 bytes per channel and px of the wanted middle out, 3 more where
//! somebody wants the normalised colours. Of HoVer-Net fast (9 channels kept, 164 of 256 px) that is 0.29 GB out per mm² at
//! 0.25 µm/px: 6 ms at the 50 GB/s of PCIe 5, beside 180 ms of products at an H100's peak rate (595 tiles of 149 GMACs), and
//! on the other lane. Cropped, each px is from one tile, and a canvas on the device would have to hand out as much: tiles'
//! maps go where slides live, to the processor. What pays is to leave the margins behind, which also spares the processor a
//! copy of each map.
//!
//! Where tiles overlap, maps are summed on the device ([`Adding`]): a stride of half the middle means four tiles for each
//! px, 1.15 GB of maps per mm². The slide's means, 19 bytes per px, are 0.30 GB, and 0.68 GB in regions of 1,024 px whose
//! halo of 255 px is read with each: still less, but what counts is that no thread of the processor, of which a slide has
//! one for its canvas, multiplies and adds 580 million values per mm². That needs the sums of a slide in one place, so it is
//! done with one GPU only: with several, any GPU takes any tile. None of this was measured on a GPU yet.
//!
//! Nuclei are found on the processor: their energy and markers need blended regions with a halo, so NP and HV (6 bytes per
//! px) would go back and energy and markers (8 bytes) come again, 0.22 GB per mm² for a stage that other cores do meanwhile.

use super::{
    buffer::{Buffer, Pinned},
    canvas::CanvasPass,
    driver::DeviceError,
    gpu::{Gpu, Loaded},
    launch::{Format, Region},
    lower::{CudaError, HeadForm, Launches, StainPass},
    spots::{Adding, Spots},
    stains::Stains,
    stream::{Recording, Stream},
};
use crate::{infer::plan::Slot, model::ModelTile};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

/// Why a batch was not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The network.
    #[error(transparent)]
    Network(#[from] CudaError),
    /// The GPU.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Maps that are to be added have another size than what they are added as.
    #[error("head map is [{w}, {h}] px, expected [{expected}, {expected}]")]
    MapSize {
        /// Width found.
        w: usize,
        /// Height found.
        h: usize,
        /// Side expected.
        expected: usize,
    },
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
    /// Where maps are added, if they do not come back.
    spots: Option<Spots>,
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

    /// Runs a batch; with `heads`, makes these head maps, and with `adding` adds them to blocks, instead of handing them
    /// out.
    ///
    /// # Shapes
    /// - `tiles`: `N` times `[side_px, side_px, 3]` u8
    ///
    /// # Errors
    /// [`LaneError`]; after [`DeviceError::Memory`], with which nothing was started, fewer images may do.
    pub fn run(
        &mut self,
        tiles: &mut [ModelTile<'_>],
        side_px: usize,
        heads: &[HeadForm],
        adding: Option<Adding<'_>>,
    ) -> Result<Results<'_>, LaneError> {
        self.stream.enter()?;
        let count = tiles.len();
        let pass = adding.map(|adding| adding.pass);
        let fits = |room: &Room| room.most >= count && room.heads == heads && room.pass() == pass;
        if !self.rooms.get(&side_px).is_some_and(fits) {
            // The old one's memory first.
            self.rooms.remove(&side_px);
            self.rooms.insert(side_px, Room::new(&self.gpu, (side_px, count), heads, adding)?);
        }
        let room = self.rooms.get_mut(&side_px).expect("was just put there");
        for (to, tile) in room.images.bytes_mut().chunks_exact_mut(side_px * side_px * 3).zip(&*tiles) {
            to.copy_from_slice(tile.rgb());
        }
        // Before tables of stains start on their way: where there is no memory, nothing was started.
        if let (Some(spots), Some(adding)) = (&mut room.spots, adding) {
            spots.take(&adding)?;
        }
        let shape = (count, room.take_stains(&self.gpu, &self.stream, tiles)?);
        room.start(&self.gpu, &self.stream, shape)?;
        self.stream.wait()?;
        room.spots.iter_mut().for_each(Spots::done);
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
    fn new(
        gpu: &Gpu,
        (side_px, most): (usize, usize),
        heads: &[HeadForm],
        adding: Option<Adding<'_>>,
    ) -> Result<Self, LaneError> {
        let loaded = gpu.loaded(side_px)?;
        let pass = adding.map(|adding| adding.pass);
        let launches = launches(gpu, &loaded, (most, None), (heads, pass));
        for form in heads.iter().filter(|_| pass.is_some()) {
            let layout = launches.heads[form.output].layout;
            let ([_, _, h, w], expected) = (form.part(layout.h, layout.w), pass.map_or(0, |pass| pass.core_px));
            if (h, w) != (expected, expected) {
                return Err(LaneError::MapSize { w, h, expected });
            }
        }
        let mut buffers = HashMap::new();
        for (region, bytes) in Region::ALL.into_iter().zip(launches.region_bytes) {
            if !matches!(region, Region::Weights | Region::Stain) {
                buffers.insert(region, Buffer::new(gpu.device(), bytes)?);
            }
        }
        let images = Pinned::new(gpu.device(), most * side_px * side_px * 3)?;
        let results = Pinned::new(gpu.device(), if pass.is_some() { 0 } else { result_bytes(&launches, most) })?;
        let spots = adding.map(|adding| Spots::new(gpu.device(), &adding, most)).transpose()?;
        let counted = HashMap::from([((most, None), Counted { launches, recording: None, runs: 0 })]);
        Ok(Self { loaded, heads: heads.to_vec(), most, buffers, images, results, stains: None, spots, counted })
    }

    fn pass(&self) -> Option<CanvasPass> {
        self.spots.as_ref().map(|spots| spots.pass)
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
            none => none.insert(Stains::new(gpu.device(), self.most)?),
        };
        stains.take(stream, tiles)?;
        Ok(Some(StainPass { tables: self.most, is_kept }))
    }

    /// Starts a batch whose images lie in [`Room::images`].
    fn start(&mut self, gpu: &Gpu, stream: &Stream, shape: Shape) -> Result<(), LaneError> {
        if !self.counted.contains_key(&shape) {
            let launches = launches(gpu, &self.loaded, shape, (&self.heads, self.pass()));
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
            Region::Canvas => self.spots.as_ref().map_or(0, Spots::address),
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
            if let Some(spots) = &self.spots {
                spots.upload(stream, count)?;
            }
            for launch in &launches.launches {
                stream.launch(launch, &bases)?;
            }
            if stain.is_some_and(|pass| pass.is_kept) {
                // Where the images came from: nobody reads them there any more.
                stream.download((buffer(Region::Pixels), 0), (&self.images, 0), count * image_bytes)?;
            }
            if self.spots.is_some() {
                return Ok(());
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

fn launches(
    gpu: &Gpu,
    loaded: &Loaded,
    (images, stain): Shape,
    (heads, pass): (&[HeadForm], Option<CanvasPass>),
) -> Launches {
    let mut store = loaded.store.lock().unwrap_or_else(PoisonError::into_inner);
    let before = store.bytes().len();
    let mut launches = gpu.task.network.launches(&loaded.plan, &gpu.batch(images, heads, stain), &mut store);
    assert_eq!(store.bytes().len(), before, "weights do not depend on the number of images");
    if let Some(pass) = pass {
        let channels = heads.iter().map(|form| form.channels);
        let maps: Vec<(usize, usize)> = channels.zip(launches.map_offsets.iter().copied()).collect();
        // Where blocks are is said by address.
        launches.launches.extend(pass.add(images, &maps, None));
    }
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
