//! Data sets of pictures: each is decoded whole, brought to the training's resolution, and kept while there is room.
//!
//! Owns: [`Pictures`], [`ReadPicture`], [`to_resolution`]. Must not know: how layouts store annotations.

use super::source::{Entry, Piece, Place, Source};
use crate::{
    config::settings::{
        Resample,
        data::{Beyond, Data},
    },
    pixels::{
        Axis, RgbImage, resample,
        stain::{StainTarget, reinhard},
    },
    train::{
        TrainError,
        class_tree::{BACKGROUND, NodeIndex, UNKNOWN},
        sample::{Dot, Sample, Truth},
    },
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

/// Reads one picture of a layout, at its own resolution.
pub trait ReadPicture: Send + Sync {
    /// The pictures.
    fn entries(&self) -> &[Entry];

    /// Width and height without decoding it.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn size(&self, entry: usize) -> Result<(u32, u32), TrainError>;

    /// Picture and truth; `mpp` where it is known.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should.
    fn read(&self, entry: usize) -> Result<Sample, TrainError>;

    /// Resolution of a picture, where it is known.
    fn mpp(&self, entry: usize) -> Option<f64>;

    /// Bytes of a picture's file; pictures with other counts show other things.
    fn bytes(&self, entry: usize) -> u64;

    /// A hash of what a picture shows.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn fingerprint(&self, entry: usize) -> Result<[u8; 32], TrainError>;
}

/// Pictures kept in memory, oldest first out.
struct Cache {
    held: HashMap<usize, Arc<Sample>>,
    order: VecDeque<usize>,
    bytes: u64,
}

/// A data set of pictures at the training's resolution.
pub struct Pictures {
    reader: Box<dyn ReadPicture>,
    mpp: f64,
    stain: StainTarget,
    kind: usize,
    beyond: Beyond,
    cache_bytes: u64,
    cache: Mutex<Cache>,
}

impl Pictures {
    /// Pictures of `reader` at `mpp` µm/px, of which `kind` is the network's row of embeddings; `data` says the rest.
    ///
    /// # Errors
    /// A stain reference that cannot be used.
    pub fn new(reader: Box<dyn ReadPicture>, mpp: f64, kind: usize, data: &Data) -> Result<Self, TrainError> {
        let stain = StainTarget::new(&data.stain).map_err(|e| TrainError::new(e.to_string()).hint(e.hint()))?;
        let cache = Mutex::new(Cache { held: HashMap::new(), order: VecDeque::new(), bytes: 0 });
        Ok(Self { reader, mpp, stain, kind, beyond: data.beyond, cache_bytes: data.cache_bytes, cache })
    }

    fn whole(&self, entry: usize) -> Result<Arc<Sample>, TrainError> {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sample) = lock().held.get(&entry) {
            return Ok(sample.clone());
        }
        let own = self.reader.read(entry)?;
        let mut sample = to_resolution(own, self.reader.mpp(entry), self.mpp);
        sample.kind = self.kind;
        let tissue = reinhard::without_background(&sample.image.data);
        self.stain.fit(&tissue).transform.apply(&mut sample.image.data);
        let sample = Arc::new(sample);
        let bytes = bytes_of(&sample);
        let mut cache = lock();
        if bytes <= self.cache_bytes && cache.held.insert(entry, sample.clone()).is_none() {
            cache.order.push_back(entry);
            cache.bytes += bytes;
            while cache.bytes > self.cache_bytes {
                let Some(oldest) = cache.order.pop_front() else { break };
                if let Some(gone) = cache.held.remove(&oldest) {
                    cache.bytes -= bytes_of(&gone);
                }
            }
        }
        Ok(sample)
    }
}

fn bytes_of(sample: &Sample) -> u64 {
    let px = u64::from(sample.image.w) * u64::from(sample.image.h);
    let truth = &sample.truth;
    px * (3 + u64::from(truth.semantic.is_some()) + 4 * u64::from(truth.instances.is_some()))
}

impl Source for Pictures {
    fn entries(&self) -> &[Entry] {
        self.reader.entries()
    }

    fn size(&self, entry: usize) -> Result<(u32, u32), TrainError> {
        let factor = factor(self.reader.mpp(entry), self.mpp);
        Ok(target_size(self.reader.size(entry)?, factor))
    }

    fn piece(&self, entry: usize, _: (f64, f64), _: f64) -> Result<Piece, TrainError> {
        Ok(Piece { sample: self.whole(entry)?, corner: (0, 0), beyond: self.beyond })
    }

    fn places(&self, entry: usize) -> Result<Vec<Place>, TrainError> {
        Ok(places_of(&*self.whole(entry)?))
    }

    fn bytes(&self, entry: usize) -> u64 {
        self.reader.bytes(entry)
    }

    fn fingerprint(&self, entry: usize) -> Result<[u8; 32], TrainError> {
        self.reader.fingerprint(entry)
    }
}

/// A piece of a class of px is as good as any other of its class: one place per this many px.
const PX_PER_PLACE: usize = 64 * 64;

/// Everything with a class of its own.
fn places_of(sample: &Sample) -> Vec<Place> {
    let truth = &sample.truth;
    let w = sample.image.w as usize;
    if let Some(dots) = &truth.dots {
        return dots.iter().map(|d| Place { x: d.x.into(), y: d.y.into(), node: d.node }).collect();
    }
    if let Some(instances) = &truth.instances {
        // Middle of each nucleus.
        let mut sums = vec![(0_u64, 0_u64, 0_u64); truth.instance_nodes.len()];
        for (at, &id) in instances.iter().enumerate().filter(|&(_, &id)| id > 0) {
            if let Some(s) = sums.get_mut(id as usize - 1) {
                *s = (s.0 + (at % w) as u64, s.1 + (at / w) as u64, s.2 + 1);
            }
        }
        let middle = |sum: u64, n: u64| sum as f64 / n as f64 + 0.5;
        let known = sums.iter().zip(&truth.instance_nodes).filter(|(s, _)| s.2 > 0);
        return known.map(|(&(x, y, n), &node)| Place { x: middle(x, n), y: middle(y, n), node }).collect();
    }
    if let Some(semantic) = &truth.semantic {
        let mut seen = [0_usize; 256];
        let mut places = vec![];
        for (at, &node) in semantic.iter().enumerate().filter(|&(_, &n)| !matches!(n, BACKGROUND | UNKNOWN)) {
            let n = &mut seen[usize::from(node)];
            if *n % PX_PER_PLACE == PX_PER_PLACE / 2 {
                places.push(Place { x: (at % w) as f64 + 0.5, y: (at / w) as f64 + 0.5, node });
            }
            *n += 1;
        }
        return places;
    }
    let middle = |node| Place { x: f64::from(sample.image.w) / 2.0, y: f64::from(sample.image.h) / 2.0, node };
    truth.label.map(middle).into_iter().collect()
}

/// Px of the picture per px of the training.
fn factor(own: Option<f64>, wanted: f64) -> f64 {
    let factor = wanted / own.unwrap_or(wanted);
    // Nearer than this to a whole number is rounding of whoever wrote the resolution down.
    if (factor - factor.round()).abs() < 1e-4 * factor && factor >= 0.999 { factor.round() } else { factor }
}

fn target_size((w, h): (u32, u32), factor: f64) -> (u32, u32) {
    let px = |n: u32| ((f64::from(n) / factor - 5e-4).ceil().max(1.0)) as u32;
    (px(w), px(h))
}

/// Brings a picture of `own` µm/px to `wanted`: colours by the mean over areas, as slides in inference; labels by the
/// nearest px; dots by their place. A picture of unknown resolution is taken to have the wanted one.
pub fn to_resolution(sample: Sample, own: Option<f64>, wanted: f64) -> Sample {
    let factor = factor(own, wanted);
    let sample = Sample { mpp: Some(wanted), ..sample };
    if factor == 1.0 {
        return sample;
    }
    let (sw, sh) = (sample.image.w as usize, sample.image.h as usize);
    let (w, h) = target_size((sample.image.w, sample.image.h), factor);
    let (ax, ay) = (Axis::new(0, w, factor, Resample::Area), Axis::new(0, h, factor, Resample::Area));
    // The edge is repeated beyond the picture.
    let clamped = |at: i64, n: usize| at.clamp(0, n as i64 - 1) as usize;
    let mut padded = vec![0; ax.len * ay.len * 3];
    for (j, row) in padded.chunks_exact_mut(ax.len * 3).enumerate() {
        let from = clamped(ay.first + j as i64, sh) * sw;
        for (i, px) in row.chunks_exact_mut(3).enumerate() {
            px.copy_from_slice(&sample.image.data[(from + clamped(ax.first + i as i64, sw)) * 3..][..3]);
        }
    }
    let mut image = RgbImage::white(w, h);
    resample(&padded, &ax, &ay, &mut image.data, &mut vec![]);
    let near = |i: u32, n: usize| (((f64::from(i) + 0.5) * factor) as usize).min(n - 1);
    let columns: Vec<usize> = (0..w).map(|i| near(i, sw)).collect();
    let pick = |j: u32| columns.iter().map(move |&i| near(j, sh) * sw + i);
    let truth = sample.truth;
    let semantic: Option<Vec<NodeIndex>> = truth.semantic.map(|map| (0..h).flat_map(pick).map(|at| map[at]).collect());
    let (instances, instance_nodes) = match truth.instances {
        Some(map) => {
            let small: Vec<u32> = (0..h).flat_map(pick).map(|at| map[at]).collect();
            let (map, nodes) = super::outlines::without_gaps(&small, &truth.instance_nodes);
            (Some(map), nodes)
        }
        None => (None, vec![]),
    };
    let scaled = |d: Dot| Dot { x: (f64::from(d.x) / factor) as f32, y: (f64::from(d.y) / factor) as f32, ..d };
    let dots = truth.dots.map(|dots| dots.into_iter().map(scaled).collect());
    let truth = Truth { semantic, instances, instance_nodes, dots, label: truth.label };
    Sample { image, truth, ..sample }
}
