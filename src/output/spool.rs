//! Instances on their way to the tables: written as they come, read back in the canonical order.
//!
//! Owns: [`Spool`], [`SpoolPages`], the canonical order and the ids. Must not know: tables, masks.
//!
//! Order: column strips of 8,192 target px, left to right; in a strip, pages of 512 × 512 px by row and then column
//! (an instance lies on the page of its centroid); on a page by the centroid's y, then x, then the first run. Ids
//! count from 1 in that order. Nothing of it depends on the regions in which instances were found. In memory are
//! only an entry per page of a part, and while reading the pages being read.

use super::{OutputError, record};
use crate::{
    geometry::{Rect, Target},
    instances::{Instance, Run},
};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Read, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
};

/// Width of a column strip, target px.
pub(super) const STRIP_PX: u32 = 8192;
/// Side of a page, target px.
pub(super) const PAGE_PX: u32 = 512;

/// Takes some rows of the canonical order.
pub(super) type TakeRows<'a> = dyn FnMut(&[(u32, Instance)]) -> Result<(), OutputError> + Send + 'a;

/// Strip, row and column of a page: sorts in the canonical order.
type PageKey = (u32, u32, u32);

/// A bounding box that nothing has grown yet when left > right: left, top, right, bottom.
pub(super) type Outline = [f64; 4];
const NO_OUTLINE: Outline = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];

/// Pixels touched, half-open: left, top, right, bottom.
type Extent = [u32; 4];

#[derive(Debug, Clone, Copy)]
struct Segment {
    page: PageKey,
    offset: u64,
    bytes: u32,
    count: u32,
    extent: Extent,
}

/// Where a part was computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct ComputedPart {
    /// The part.
    pub core: Rect<Target>,
    /// Place of its deflated map in the spool; `None` when all of it was computed.
    stored: Option<(u64, u32)>,
}

/// Takes instances in any order.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    file: BufWriter<File>,
    end: u64,
    segments: Vec<Segment>,
    computed: Vec<ComputedPart>,
    /// Bounding box of all exterior rings, target px.
    outline: Outline,
    /// Whether more than the first run of each instance is kept; painting needs them all.
    keep_runs: bool,
}

impl Spool {
    /// An empty spool in a new file.
    pub(super) fn create(path: PathBuf, keep_runs: bool) -> Result<Self, OutputError> {
        let options = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = BufWriter::with_capacity(1 << 20, options.map_err(OutputError::io(&path))?);
        Ok(Self { path, file, end: 0, segments: Vec::new(), computed: Vec::new(), outline: NO_OUTLINE, keep_runs })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64, OutputError> {
        self.file.write_all(bytes).map_err(OutputError::io(&self.path))?;
        let offset = self.end;
        self.end += bytes.len() as u64;
        Ok(offset)
    }

    /// Takes the instances of a part.
    pub(super) fn push(&mut self, instances: &[Instance]) -> Result<(), OutputError> {
        let mut pages: BTreeMap<PageKey, Vec<&Instance>> = BTreeMap::new();
        for instance in instances {
            pages.entry(page_of(instance.centroid)).or_default().push(instance);
        }
        let keep_runs = self.keep_runs;
        let pages: Vec<_> = pages.into_iter().collect();
        let encoded: Vec<_> = pages.par_iter().map(|(page, all)| (*page, all.len(), encode(all, keep_runs))).collect();
        for (page, count, (bytes, extent, outline)) in encoded {
            let a = self.outline;
            self.outline = std::array::from_fn(|i| if i < 2 { a[i].min(outline[i]) } else { a[i].max(outline[i]) });
            let len = u32::try_from(bytes.len());
            let len = len.map_err(|_| OutputError::format("spool", &self.path)("a page of more than 4 GiB"))?;
            let offset = self.append(&bytes)?;
            self.segments.push(Segment { page, offset, bytes: len, count: count as u32, extent });
        }
        Ok(())
    }

    /// Takes note of which pixels of `core` were computed (`[core.h, core.w]`, 1 or 0); returns how many.
    pub(super) fn push_computed(&mut self, core: Rect<Target>, computed: &[u8]) -> Result<u64, OutputError> {
        let count_block = |block: &[u8]| u64::from(block.iter().map(|&c| u32::from(c != 0)).sum::<u32>());
        let count = computed.par_chunks(1 << 16).map(count_block).sum();
        let stored = if count == core.area() {
            None
        } else if count == 0 {
            return Ok(0);
        } else {
            let mut packer = DeflateEncoder::new(Vec::new(), Compression::fast());
            let packed = packer.write_all(computed).and_then(|()| packer.finish());
            let packed = packed.map_err(OutputError::io(&self.path))?;
            Some((self.append(&packed)?, packed.len() as u32))
        };
        self.computed.push(ComputedPart { core, stored });
        Ok(count)
    }

    /// Puts the pages in order and gives the ids out.
    pub(super) fn finish(mut self) -> Result<SpoolPages, OutputError> {
        self.file.flush().map_err(OutputError::io(&self.path))?;
        let file = self.file.into_inner().map_err(|e| OutputError::io(&self.path)(e.into_error()))?;
        self.segments.sort_by_key(|s| (s.page, s.offset));
        let mut pages: Vec<Page> = Vec::new();
        let mut next_id = 1;
        for (at, segment) in self.segments.iter().enumerate() {
            match pages.last_mut().filter(|page| page.key == segment.page) {
                Some(page) => {
                    page.segments.1 = at + 1;
                    page.count += segment.count;
                    let (a, b) = (page.extent, segment.extent);
                    page.extent = std::array::from_fn(|i| if i < 2 { a[i].min(b[i]) } else { a[i].max(b[i]) });
                }
                None => pages.push(Page {
                    key: segment.page,
                    segments: (at, at + 1),
                    count: segment.count,
                    first_id: next_id,
                    extent: segment.extent,
                }),
            }
            next_id += segment.count;
        }
        let count = u64::from(next_id - 1);
        let (path, segments, computed, outline) = (self.path, self.segments, self.computed, self.outline);
        Ok(SpoolPages { path, file, segments, pages, computed, outline, count })
    }
}

/// The records of some instances, the pixels they touch, and the bounding box of their exterior rings.
fn encode(instances: &[&Instance], keep_runs: bool) -> (Vec<u8>, Extent, Outline) {
    // More than most need: growing copies.
    let mut bytes = Vec::with_capacity(instances.len() * 512);
    let mut outline = NO_OUTLINE;
    let mut extent = [u32::MAX, u32::MAX, 0, 0];
    for instance in instances {
        let kept = if keep_runs { instance.runs.len() } else { instance.runs.len().min(1) };
        record::put(instance, &instance.runs[..kept], &mut bytes);
        let centroid = [instance.centroid.0, instance.centroid.1];
        for &[x, y] in instance.rings.first().map_or(std::slice::from_ref(&centroid), Vec::as_slice) {
            let [left, top, right, bottom] = outline;
            outline = [left.min(x), top.min(y), right.max(x), bottom.max(y)];
        }
        for run in &instance.runs {
            let [left, top, right, bottom] = extent;
            extent = [left.min(run.x0), top.min(run.y), right.max(run.x1), bottom.max(run.y + 1)];
        }
    }
    (bytes, extent, outline)
}

/// The page an instance with this centroid lies on.
fn page_of((x, y): (f64, f64)) -> PageKey {
    let (x, y) = (x.max(0.0) as u32, y.max(0.0) as u32);
    (x / STRIP_PX, y / PAGE_PX, x / PAGE_PX)
}

/// One page of the canonical order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    key: PageKey,
    segments: (usize, usize),
    count: u32,
    first_id: u32,
    /// Pixels its instances touch: left, top, right, bottom, half-open.
    pub extent: Extent,
}

/// An instance as painting sees it.
#[derive(Debug, Clone)]
pub(super) struct Painted {
    /// Label in the instance mask.
    pub id: u32,
    /// Label in the class mask.
    pub class: u8,
    /// Its runs, in the list they were read into.
    pub runs: std::ops::Range<usize>,
}

/// A finished spool: pages in canonical order, readable from many threads.
#[derive(Debug)]
pub(super) struct SpoolPages {
    path: PathBuf,
    file: File,
    segments: Vec<Segment>,
    /// In canonical order.
    pub pages: Vec<Page>,
    /// Which pixels were computed.
    pub computed: Vec<ComputedPart>,
    /// Bounding box of all exterior rings, target px.
    pub outline: Outline,
    /// Number of instances.
    pub count: u64,
}

impl SpoolPages {
    fn read(&self, offset: u64, bytes: u32, buffer: &mut Vec<u8>) -> Result<(), OutputError> {
        let start = buffer.len();
        buffer.resize(start + bytes as usize, 0);
        self.file.read_exact_at(&mut buffer[start..], offset).map_err(OutputError::io(&self.path))
    }

    fn read_page(&self, page: &Page) -> Result<Vec<u8>, OutputError> {
        let mut bytes = Vec::new();
        for segment in &self.segments[page.segments.0..page.segments.1] {
            self.read(segment.offset, segment.bytes, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The instances of a page, in order; of their runs only the first.
    fn instances(&self, page: &Page) -> Result<Vec<(u32, Instance)>, OutputError> {
        let bytes = self.read_page(page)?;
        let mut rest = bytes.as_slice();
        let mut instances: Vec<_> = (0..page.count).map(|_| record::take_row(&mut rest)).collect();
        instances.sort_by(|a, b| record::Order::of(a).compare(&record::Order::of(b)));
        Ok((page.first_id..).zip(instances).collect())
    }

    /// Ids, classes and runs of a page's instances; the runs are appended to `runs`.
    pub(super) fn painted(&self, page: &Page, runs: &mut Vec<Run>) -> Result<Vec<Painted>, OutputError> {
        let bytes = self.read_page(page)?;
        let mut rest = bytes.as_slice();
        let mut painted = Vec::with_capacity(page.count as usize);
        for _ in 0..page.count {
            let outline = record::take_outline(&mut rest, runs);
            painted.push((outline.order, outline.class, outline.first_run..runs.len()));
        }
        painted.sort_by(|a, b| a.0.compare(&b.0));
        let ids = page.first_id..;
        Ok(ids.zip(painted).map(|(id, (_, class, runs))| Painted { id, class, runs }).collect())
    }

    /// Which pixels of a part were computed, `[core.h, core.w]`; `None` means all.
    pub(super) fn computed_map(&self, part: &ComputedPart) -> Result<Option<Vec<u8>>, OutputError> {
        let Some((offset, len)) = part.stored else { return Ok(None) };
        let mut packed = Vec::new();
        self.read(offset, len, &mut packed)?;
        let mut map = vec![0; part.core.area() as usize];
        DeflateDecoder::new(packed.as_slice()).read_exact(&mut map).map_err(OutputError::io(&self.path))?;
        Ok(Some(map))
    }

    /// The rows of pages from `next` on, until there are `wanted`; moves `next` past them.
    fn rows(&self, next: &mut usize, wanted: usize) -> Result<Vec<(u32, Instance)>, OutputError> {
        let (first, mut found) = (*next, 0);
        while *next < self.pages.len() && found < wanted {
            found += self.pages[*next].count as usize;
            *next += 1;
        }
        let pages = self.pages[first..*next].par_iter().map(|page| self.instances(page));
        Ok(pages.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Calls `take` with all instances in canonical order, `batch` at a time (fewer at the end), of their runs only
    /// the first. Half of the next batch is read while one is
    /// taken.
    pub(super) fn batches(&self, batch: usize, take: &mut TakeRows<'_>) -> Result<(), OutputError> {
        let batch = batch.max(1);
        let mut next = 0;
        let mut now = self.rows(&mut next, batch)?;
        while !now.is_empty() {
            let mut after = now.split_off(batch.min(now.len()));
            // Not all of it: two whole batches at once would be most of the memory.
            let ahead = batch.saturating_sub(after.len()) / 2;
            let take = &mut *take;
            let (taken, read) = rayon::join(
                move || {
                    let taken = take(&now);
                    // Many small pieces: giving them back takes as long as reading them.
                    now.into_par_iter().with_min_len(1024).for_each(drop);
                    taken
                },
                || self.rows(&mut next, ahead),
            );
            taken?;
            after.extend(read?);
            after.extend(self.rows(&mut next, batch.saturating_sub(after.len()))?);
            now = after;
        }
        Ok(())
    }
}
