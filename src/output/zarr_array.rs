//! One Zarr array of labels on disk, one block at a time, through `zarrs`.
//!
//! Owns: [`ZarrArray`], [`Block`], [`Label`], how arrays are chunked. Must not know: slides, pyramids, groups.
//! Source: Zarr v3 core specification, `sharding_indexed` codec 1.0; Zarr v2; both as `zarrs` implements them.
//!
//! A block is what one file holds: in Zarr v3 a shard of 4 × 4 chunks, in Zarr v2 a chunk. Blocks are written whole,
//! shards by [`ShardWriter`]. What is written depends on the pixels alone.

use super::{
    OutputError,
    shard::{ShardShape, ShardWriter},
};
use crate::config::settings::OmeZarrVersion;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use zarrs::{
    array::{
        Array, ArrayBuilder, ArrayError, ArrayMetadata, ArrayMetadataOptions, ArrayPartialDecoderTraits, ArraySubset,
        CodecOptions, ElementOwned, FillValue, codec::ZstdCodec,
    },
    filesystem::FilesystemStore,
    storage::{ReadableStorageTraits, StorageError},
};

/// Chunks along one side of a shard.
const SHARD_CHUNKS: u32 = 4;
const FORMAT: &str = "OME-Zarr";

/// A pixel type of label arrays.
pub(super) trait Label: ElementOwned + Into<FillValue> + Copy + PartialEq + Send + Sync + 'static {
    /// Zarr v3 data type.
    const V3: &'static str;
    /// Zarr v2 data type.
    const V2: &'static str;
    /// The value, for metadata.
    fn number(self) -> u64;
    /// Appends `px` as Zarr's little-endian bytes.
    fn put(px: &[Self], bytes: &mut Vec<u8>);
}

impl Label for u8 {
    const V3: &'static str = "uint8";
    const V2: &'static str = "|u1";
    fn number(self) -> u64 {
        u64::from(self)
    }
    fn put(px: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(px);
    }
}

impl Label for u32 {
    const V3: &'static str = "uint32";
    const V2: &'static str = "<u4";
    fn number(self) -> u64 {
        u64::from(self)
    }
    fn put(px: &[Self], bytes: &mut Vec<u8>) {
        let from = bytes.len();
        bytes.resize(from + size_of_val(px), 0);
        bytes[from..].as_chunks_mut().0.iter_mut().zip(px).for_each(|(to, v)| *to = v.to_le_bytes());
    }
}

/// Fills the pixels of a row of chunks, told its number.
pub(super) type FillBand<'a, T> = dyn FnMut(u32, &mut [T]) -> Result<(), OutputError> + 'a;

/// Plane, row and column of a block.
pub(super) type BlockKey = (u32, u32, u32);

/// What an array is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout<T> {
    /// Number of planes; `None` for an array of two axes.
    pub planes: Option<u32>,
    /// Height in px.
    pub h: u32,
    /// Width in px.
    pub w: u32,
    /// Side of a chunk in px.
    pub chunk_px: u32,
    /// Zarr v2 or v3.
    pub version: OmeZarrVersion,
    /// zstd level.
    pub zstd_level: i32,
    /// Value of pixels that are not stored.
    pub fill: T,
}

impl<T> Layout<T> {
    /// Chunks along one side of a block.
    pub(super) fn block_chunks(&self) -> u32 {
        match self.version {
            OmeZarrVersion::V05 => SHARD_CHUNKS,
            OmeZarrVersion::V04 => 1,
        }
    }

    /// Side of a block in px.
    pub(super) fn block_px(&self) -> u32 {
        self.chunk_px * self.block_chunks()
    }

    /// Pixels in a row of a block's chunks.
    pub(super) fn band_area(&self) -> usize {
        self.chunk_px as usize * self.block_px() as usize
    }

    /// Pixels in a block.
    pub(super) fn block_area(&self) -> usize {
        (self.block_px() as usize).pow(2)
    }

    /// Blocks along x and y.
    pub(super) fn block_grid(&self) -> (u32, u32) {
        (self.w.div_ceil(self.block_px()), self.h.div_ceil(self.block_px()))
    }

    /// Every block, by plane, row and column.
    pub(super) fn blocks(&self) -> Vec<BlockKey> {
        let (cols, rows) = self.block_grid();
        let planes = 0..self.planes.unwrap_or(1);
        planes.flat_map(|p| (0..rows).flat_map(move |r| (0..cols).map(move |c| (p, r, c)))).collect()
    }

    fn with_planes(&self, plane: u64, y: u64, x: u64) -> Vec<u64> {
        match self.planes {
            Some(_) => vec![plane, y, x],
            None => vec![y, x],
        }
    }

    fn shape(&self) -> Vec<u64> {
        self.with_planes(self.planes.unwrap_or(0).into(), self.h.into(), self.w.into())
    }

    fn square(&self, px: u32) -> Vec<u64> {
        self.with_planes(1, px.into(), px.into())
    }
}

/// An array `[h, w]`, or `[planes, h, w]`, of label type `T`.
#[derive(Debug, Clone)]
pub(super) struct ZarrArray<T> {
    /// What it is like.
    pub layout: Layout<T>,
    dir: PathBuf,
    array: Arc<Array<FilesystemStore>>,
}

impl<T: Label> ZarrArray<T> {
    /// Writes the metadata of a new array in the directory `dir`.
    pub(super) fn create(dir: PathBuf, layout: Layout<T>) -> Result<Self, OutputError> {
        let store = Arc::new(FilesystemStore::new(&dir).map_err(OutputError::format(FORMAT, &dir))?);
        let built = match layout.version {
            OmeZarrVersion::V05 => {
                let names = if layout.planes.is_some() { vec!["c", "y", "x"] } else { vec!["y", "x"] };
                let fill: FillValue = layout.fill.into();
                ArrayBuilder::new(layout.shape(), layout.square(layout.block_px()), T::V3, fill)
                    .subchunk_shape(layout.square(layout.chunk_px))
                    .bytes_to_bytes_codecs(vec![Arc::new(ZstdCodec::new(layout.zstd_level, false))])
                    .dimension_names(Some(names))
                    .build(store, "/")
            }
            OmeZarrVersion::V04 => {
                let meta: ArrayMetadata =
                    serde_json::from_value(v2_metadata(&layout)).map_err(OutputError::format(FORMAT, &dir))?;
                Array::new_with_metadata(store, "/", meta)
            }
        };
        let array = built.map_err(OutputError::format(FORMAT, &dir))?;
        // The library's signature would tie the bytes to its version.
        let options = ArrayMetadataOptions::default().with_include_zarrs_metadata(false);
        let stored = array.store_metadata_opt(&options);
        stored.map_err(|error| failed(&dir, ArrayError::StorageError(error)))?;
        Ok(Self { layout, dir, array: Arc::new(array) })
    }

    /// Opens an array of two axes as [`ZarrArray::create`] makes it, to be read only.
    ///
    /// # Errors
    /// When there is no array, or not one of `T` in square chunks of at most `max_chunk_px`.
    pub(super) fn open(dir: PathBuf, fill: T, max_chunk_px: u32) -> Result<Self, OutputError> {
        let store = Arc::new(FilesystemStore::new(&dir).map_err(OutputError::damaged(FORMAT, &dir))?);
        let array = Array::open(store, "/").map_err(OutputError::damaged(FORMAT, &dir))?;
        let unlike = || OutputError::damaged(FORMAT, &dir)("no array of two axes as written by wsi-run");
        let version = match array.metadata() {
            ArrayMetadata::V3(_) => OmeZarrVersion::V05,
            ArrayMetadata::V2(_) => OmeZarrVersion::V04,
        };
        let side = |n: u64| u32::try_from(n).ok().filter(|&n| n > 0);
        let &[h, w] = array.shape() else { return Err(unlike()) };
        let block = array.chunk_shape(&[0, 0]).map_err(|error| unread(&dir, error))?;
        let &[block_h, block_w] = block.as_slice() else { return Err(unlike()) };
        let (Some(h), Some(w), Some(block_px)) = (side(h), side(w), side(block_w.get())) else { return Err(unlike()) };
        let mut layout = Layout { planes: None, h, w, chunk_px: block_px, version, zstd_level: 1, fill };
        layout.chunk_px = block_px / layout.block_chunks();
        let is_ours = block_h == block_w
            && layout.block_px() == block_px
            && (1..=max_chunk_px).contains(&layout.chunk_px)
            && T::validate_data_type(array.data_type()).is_ok()
            && *array.fill_value() == fill.into();
        if !is_ours {
            return Err(unlike());
        }
        Ok(Self { layout, dir, array: Arc::new(array) })
    }

    /// Directory of the array.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn indices(&self, (plane, row, col): BlockKey) -> Vec<u64> {
        self.layout.with_planes(plane.into(), row.into(), col.into())
    }

    /// Writes the block `key` of pixels `px` (`[block_px, block_px]`), using `threads` threads; an empty one is
    /// removed.
    pub(super) fn write_block(&self, key: BlockKey, px: &[T], threads: usize) -> Result<(), OutputError> {
        let mut bands = px.chunks_exact(self.layout.band_area());
        self.write_bands(key, threads, &mut |_, band| {
            band.copy_from_slice(bands.next().expect("a block is whole bands"));
            Ok(())
        })
    }

    /// Writes the block `key`, whose rows of chunks `[chunk_px, block_px]` are filled one after another: `fill` gets
    /// the number of the row and its pixels, all of the fill value. Holds one row; an empty block is removed.
    pub(super) fn write_bands(
        &self,
        key: BlockKey,
        threads: usize,
        fill: &mut FillBand<'_, T>,
    ) -> Result<(), OutputError> {
        let layout = &self.layout;
        let mut band = vec![layout.fill; layout.band_area()];
        if layout.version == OmeZarrVersion::V04 {
            fill(0, &mut band)?;
            let written = self.array.store_chunk_opt(&self.indices(key), band.as_slice(), &options(threads));
            return written.map_err(|error| failed(&self.dir, error));
        }
        let shape = ShardShape {
            chunk_px: layout.chunk_px as usize,
            chunks: layout.block_chunks() as usize,
            zstd_level: layout.zstd_level,
            fill: layout.fill,
        };
        let path = self.dir.join(self.array.chunk_key(&self.indices(key)).as_str());
        let mut shard = ShardWriter::new(path, shape);
        for row in 0..layout.block_chunks() {
            if row > 0 {
                band.fill(layout.fill);
            }
            fill(row, &mut band)?;
            shard.push(&band, threads)?;
        }
        shard.finish()
    }

    /// Reads a block whole, using `threads` threads; `None` when it was not written.
    pub(super) fn read_block(&self, key: BlockKey, threads: usize) -> Result<Option<Vec<T>>, OutputError> {
        let read = self.array.retrieve_chunk_if_exists_opt::<Vec<T>>(&self.indices(key), &options(threads));
        read.map_err(|error| unread(&self.dir, error))
    }

    /// Opens a block to read its chunks one by one; `None` when it was not written.
    pub(super) fn block(&self, key: BlockKey) -> Result<Option<Block<'_, T>>, OutputError> {
        let indices = self.indices(key);
        let size = self.array.storage().size_key(&self.array.chunk_key(&indices));
        if size.map_err(|error| unread(&self.dir, ArrayError::StorageError(error)))?.is_none() {
            return Ok(None);
        }
        let decoder = self.array.partial_decoder_opt(&indices, &options(1));
        Ok(Some(Block { array: self, decoder: decoder.map_err(|error| unread(&self.dir, error))? }))
    }
}

/// A written block, its index read.
pub(super) struct Block<'a, T> {
    array: &'a ZarrArray<T>,
    decoder: Arc<dyn ArrayPartialDecoderTraits>,
}

impl<T: Label> Block<'_, T> {
    /// The pixels `[chunk_px, chunk_px]` of a chunk, by its row and column in the block.
    pub(super) fn chunk(&self, row: u32, col: u32) -> Result<Vec<T>, OutputError> {
        let (dir, layout) = (&self.array.dir, &self.array.layout);
        let at = [row, col].map(|i| u64::from(i * layout.chunk_px));
        let start = layout.with_planes(0, at[0], at[1]);
        let subset = ArraySubset::new_with_start_shape(start, layout.square(layout.chunk_px));
        let subset = subset.map_err(OutputError::damaged(FORMAT, dir))?;
        let bytes = self.decoder.partial_decode(&subset, &options(1));
        let bytes = bytes.map_err(|error| unread(dir, ArrayError::CodecError(error)))?;
        T::from_array_bytes(self.array.array.data_type(), bytes).map_err(OutputError::damaged(FORMAT, dir))
    }
}

fn options(threads: usize) -> CodecOptions {
    CodecOptions::default().with_concurrent_target(threads)
}

/// The system's error when there is one below, else the library's words.
fn failed(dir: &Path, error: ArrayError) -> OutputError {
    match error {
        ArrayError::StorageError(StorageError::IOError(source)) => {
            OutputError::io(dir)(std::io::Error::new(source.kind(), source))
        }
        error => OutputError::format(FORMAT, dir)(error),
    }
}

/// The same for what was being read.
fn unread(dir: &Path, error: ArrayError) -> OutputError {
    match error {
        ArrayError::StorageError(StorageError::IOError(source)) => {
            OutputError::unreadable(dir)(std::io::Error::new(source.kind(), source))
        }
        error => OutputError::damaged(FORMAT, dir)(error),
    }
}

fn v2_metadata<T: Label>(layout: &Layout<T>) -> Value {
    json!({
        "zarr_format": 2,
        "shape": layout.shape(),
        "chunks": layout.square(layout.chunk_px),
        "dtype": T::V2,
        "compressor": {"id": "zstd", "level": layout.zstd_level},
        "fill_value": layout.fill.number(),
        "order": "C",
        "filters": null,
        "dimension_separator": "/"
    })
}

/// Writes a file, and the directories above it.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(OutputError::io(dir))?;
    }
    fs::write(path, bytes).map_err(OutputError::io(path))
}

/// Writes `value` as indented JSON.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), OutputError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(OutputError::format("JSON", path))?;
    text.push(b'\n');
    write_file(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(version: OmeZarrVersion) -> Layout<u32> {
        Layout { planes: None, h: 100, w: 70, chunk_px: 16, version, zstd_level: 3, fill: 0 }
    }

    fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let files = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        files
            .map(|entry| (entry.path().strip_prefix(dir).unwrap().to_owned(), fs::read(entry.path()).unwrap()))
            .collect()
    }

    #[test]
    fn a_block_reads_back_as_written_and_empty_ones_are_not_stored() {
        for version in [OmeZarrVersion::V05, OmeZarrVersion::V04] {
            let dir = tempfile::tempdir().unwrap();
            let array = ZarrArray::create(dir.path().to_owned(), layout(version)).unwrap();
            let side = array.layout.block_px();
            let px: Vec<u32> = (0..side * side).map(|i| if i % side < 16 { i * 70_000 } else { 0 }).collect();
            array.write_block((0, 1, 0), &px, 1).unwrap();
            array.write_block((0, 0, 0), &vec![0; px.len()], 1).unwrap();
            assert_eq!(files(dir.path()).len(), 2, "metadata and a block");
            let array = ZarrArray::<u32>::open(dir.path().to_owned(), 0, 16).unwrap();
            assert_eq!((array.layout.chunk_px, array.layout.block_px()), (16, side));
            assert_eq!(array.read_block((0, 1, 0), 1).unwrap().unwrap(), px);
            let block = array.block((0, 1, 0)).unwrap().unwrap();
            for i in 0..array.layout.block_chunks() {
                let chunk = block.chunk(i, i).unwrap();
                let at = |k: u32| px[((16 * i + k / 16) * side + 16 * i + k % 16) as usize];
                assert_eq!(chunk, (0..256).map(at).collect::<Vec<_>>());
            }
            assert!(array.block((0, 0, 0)).unwrap().is_none());
            assert!(array.read_block((0, 0, 0), 1).unwrap().is_none());
            assert!(ZarrArray::<u32>::open(dir.path().to_owned(), 0, 8).is_err(), "chunks too large");
            assert!(ZarrArray::<u8>::open(dir.path().to_owned(), 0, 16).is_err(), "another type");
        }
    }

    #[test]
    fn bytes_do_not_depend_on_the_number_of_threads() {
        let written = [1, 4].map(|threads| {
            let dir = tempfile::tempdir().unwrap();
            let array = ZarrArray::create(dir.path().to_owned(), layout(OmeZarrVersion::V05)).unwrap();
            let px: Vec<u32> = (0..4096_u32).map(|i| i.wrapping_mul(2_654_435_761) >> (i % 32)).collect();
            for _ in 0..20 {
                array.write_block((0, 0, 0), &px, threads).unwrap();
            }
            files(dir.path())
        });
        assert!(written[0] == written[1]);
    }

    #[test]
    fn a_damaged_block_is_refused_and_never_panics() {
        let dir = tempfile::tempdir().unwrap();
        let array = ZarrArray::create(dir.path().to_owned(), layout(OmeZarrVersion::V05)).unwrap();
        let mut px = vec![0; 4096];
        px[0] = 7;
        array.write_block((0, 0, 0), &px, 1).unwrap();
        let path = dir.path().join("c/0/0");
        let good = fs::read(&path).unwrap();
        let read = || array.block((0, 0, 0)).and_then(|block| block.unwrap().chunk(0, 0));
        assert_eq!(read().unwrap()[0], 7);
        // The index and its checksum are the last 260 bytes.
        for at in good.len() - 260..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(read().is_err(), "byte {at}");
        }
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            assert!(read().is_err(), "{len} bytes");
        }
    }
}
