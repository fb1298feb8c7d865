//! Blending on a GPU: maps are added there as they are made, and regions are read when they are whole.
//!
//! Owns: [`CudaBlend`]. Must not know: slides, when a region is whole.
//!
//! Only with one GPU: with several, any of them takes any tile, and sums would have to travel between them.

use super::{
    blocks::Blocks,
    buffer::{Buffer, Pinned},
    canvas::CanvasPass,
    driver::{Device, DeviceError},
    gpu::Task,
    lanes::Lanes,
    launch::Region,
    lower::HeadForm,
    spots::Adding,
    stream::Stream,
};
use crate::{
    geometry::{Rect, Target},
    infer::lock,
    model::{Blend, BlendForm, Blended, BlockAt, HeadPlan, ModelError, ModelTile, Placement},
};
use std::sync::{Arc, Mutex};

/// Share of the GPU's memory that blocks may take; weights and batches need the rest, and are made smaller for it.
const BLOCK_SHARE: f64 = 0.5;

/// A slide's sums on the GPU that runs the network.
pub(super) struct CudaBlend {
    task: Arc<Task>,
    lanes: Arc<Lanes>,
    device: Arc<Device>,
    heads: Vec<HeadForm>,
    form: BlendForm,
    pass: CanvasPass,
    blocks: Blocks,
    reader: Mutex<Option<Reader>>,
}

/// What regions are read with, as many rows at once as a block has.
struct Reader {
    /// Of its own: what is read was waited for by whoever added to it, before the stitcher heard of the tile, so this
    /// stream need wait for no other's events, and batches go on meanwhile.
    stream: Stream,
    table: (Pinned, Buffer),
    means: (Pinned, Buffer),
}

impl CudaBlend {
    pub(super) fn new(
        task: &Arc<Task>,
        lanes: &Arc<Lanes>,
        device: &Arc<Device>,
        heads: &[HeadPlan],
        form: &BlendForm,
    ) -> Self {
        let core_px = form.window.len();
        let heads: Vec<HeadForm> = heads.iter().map(|plan| HeadForm::new(plan, Some(core_px as u32))).collect();
        let channels = heads.iter().map(|head| head.channels).sum();
        let pass = CanvasPass { core_px, block_px: form.block_px as usize, channels };
        Self {
            task: task.clone(),
            lanes: lanes.clone(),
            device: device.clone(),
            heads,
            form: form.clone(),
            pass,
            blocks: Blocks::new(device, pass.block_bytes()),
            reader: Mutex::new(None),
        }
    }

    /// Makes room for reading before there is anything to read: later there may be no memory left.
    fn prepare(&self) -> Result<(), DeviceError> {
        let mut reader = lock(&self.reader);
        if reader.is_none() {
            // The widest rows, and as many blocks as they touch wherever they begin.
            let rect = Rect::new(i64::from(self.form.block_px) - 1, 0, self.form.most_px, self.form.block_px);
            let (table, means) = self.pass.read_bytes(rect);
            let both =
                |bytes| Ok::<_, DeviceError>((Pinned::new(&self.device, bytes)?, Buffer::new(&self.device, bytes)?));
            *reader = Some(Reader { stream: Stream::new(&self.device)?, table: both(table)?, means: both(means)? });
        }
        Ok(())
    }
}

impl Reader {
    /// Reads `rect`; nothing where there is no block.
    fn read(
        &mut self,
        pass: &CanvasPass,
        rect: Rect<Target>,
        block: &dyn Fn(i64, i64) -> Option<Arc<Buffer>>,
    ) -> Result<Option<Blended<'_>>, DeviceError> {
        let (table_bytes, bytes) = pass.read_bytes(rect);
        // The blocks stay until they were read: whoever reads is who frees them.
        let address = |column, row| block(column, row).map(|block| block.address());
        if !pass.write_places(&mut self.table.0.bytes_mut()[..table_bytes], rect, &address) {
            return Ok(None);
        }
        self.stream.enter()?;
        let bases = |region: Region| match region {
            Region::Canvas => self.table.1.address(),
            _ => self.means.1.address(),
        };
        // SAFETY: the buffers are as large as the widest rows need, are this value's, and stay until the stream was
        // waited for.
        unsafe {
            self.stream.upload((&self.table.0, 0), (&self.table.1, 0), table_bytes)?;
            self.stream.launch(&pass.read(rect, None), &bases)?;
            self.stream.download((&self.means.1, 0), (&self.means.0, 0), bytes)?;
        }
        self.stream.wait()?;
        let px = rect.w as usize * rect.h as usize;
        let values = self.means.0.numbers(pass.channels * px);
        let computed = &self.means.0.bytes()[2 * pass.channels * px..][..px];
        Ok(Some(Blended { rect, values, computed }))
    }
}

impl Blend for CudaBlend {
    fn add(&self, tiles: &mut [ModelTile<'_>], tile_px: u32, placements: &[Placement]) -> Result<(), ModelError> {
        let side = tile_px as usize;
        self.task.check(tiles, side)?;
        self.prepare().map_err(|e| ModelError(e.to_string()))?;
        let adding = Adding { pass: self.pass, window: &self.form.window, blocks: &self.blocks, placements };
        self.lanes.in_parts(tiles, side, (&self.heads, Some(adding)), &mut |_, _| {})
    }

    fn read(
        &self,
        slide: u64,
        rect: Rect<Target>,
        strip: u32,
        to: &mut dyn FnMut(Blended<'_>),
    ) -> Result<(), ModelError> {
        let mut reader = lock(&self.reader);
        // Nothing was ever added.
        let Some(reader) = reader.as_mut() else { return Ok(()) };
        let block = i64::from(self.form.block_px);
        for row in rect.y.div_euclid(block)..=(rect.bottom() - 1).div_euclid(block) {
            let rows = Rect::new(rect.x, row * block, rect.w, self.form.block_px).intersect(&rect);
            let of = |column: i64, row: i64| {
                let at = (u32::try_from(column).ok()?, u32::try_from(row).ok()?, strip);
                self.blocks.get(slide, at)
            };
            if let Some(blended) = reader.read(&self.pass, rows, &of).map_err(|e| ModelError(e.to_string()))? {
                to(blended);
            }
        }
        Ok(())
    }

    fn most_bytes(&self) -> u64 {
        (self.device.memory_bytes() as f64 * BLOCK_SHARE) as u64
    }

    fn free(&self, slide: u64, at: BlockAt) {
        self.blocks.free(slide, at);
    }

    fn end(&self, slide: u64) {
        self.blocks.end(slide);
    }
}
