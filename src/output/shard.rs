//! One shard on disk, written a row of chunks at a time.
//!
//! Owns: [`ShardWriter`], the bytes of a shard. Must not know: arrays, metadata, what labels mean.
//! Source: Zarr v3 `sharding_indexed` codec 1.0, index at the end, its checksum CRC-32C; chunks by `zarrs`' zstd codec.
//!
//! Chunks lie by row and then column, those of only the fill value not at all. A shard of 2048 × 2048 ids is 16 MiB of
//! pixels, and a library that is handed a whole one copies it twice: a row of chunks at a time holds a quarter of that
//! once, in each of the threads that write.

use super::{OutputError, zarr_array::Label};
use rayon::prelude::*;
use std::{
    borrow::Cow,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};
use zarrs::array::{
    CodecOptions,
    codec::{Crc32cCodec, ZstdCodec, api::BytesToBytesCodecTraits},
};

const FORMAT: &str = "OME-Zarr";
/// Offset and length of a chunk that is not stored.
const NOT_STORED: [u64; 2] = [u64::MAX; 2];

/// What all shards of an array have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardShape<T> {
    /// Side of a chunk in px.
    pub chunk_px: usize,
    /// Chunks along one side of the shard.
    pub chunks: usize,
    /// zstd level.
    pub zstd_level: i32,
    /// Value of pixels that are not stored.
    pub fill: T,
}

/// A shard being written. Dropped before [`ShardWriter::finish`], it leaves a file nobody can read.
pub(super) struct ShardWriter<T> {
    path: PathBuf,
    shape: ShardShape<T>,
    /// Made with the first chunk that holds anything.
    file: Option<BufWriter<File>>,
    end: u64,
    index: Vec<[u64; 2]>,
}

impl<T: Label> ShardWriter<T> {
    /// An empty shard, to be the file `path`.
    pub(super) fn new(path: PathBuf, shape: ShardShape<T>) -> Self {
        Self { path, shape, file: None, end: 0, index: Vec::with_capacity(shape.chunks * shape.chunks) }
    }

    /// Takes the next row of chunks, `[chunk_px, chunks · chunk_px]`; encodes them side by side if `threads` > 1.
    pub(super) fn push(&mut self, band: &[T], threads: usize) -> Result<(), OutputError> {
        let shape = self.shape;
        let encode = |col: usize| encode(band, col, &shape).map_err(OutputError::format(FORMAT, &self.path));
        let chunks: Vec<Option<Vec<u8>>> = if threads > 1 {
            (0..shape.chunks).into_par_iter().map(encode).collect::<Result<_, _>>()?
        } else {
            (0..shape.chunks).map(encode).collect::<Result<_, _>>()?
        };
        for chunk in chunks {
            let Some(chunk) = chunk else {
                self.index.push(NOT_STORED);
                continue;
            };
            self.append(&chunk)?;
            self.index.push([self.end, chunk.len() as u64]);
            self.end += chunk.len() as u64;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if let Some(dir) = self.path.parent() {
                    fs::create_dir_all(dir).map_err(OutputError::io(dir))?;
                }
                let file = File::create(&self.path).map_err(OutputError::io(&self.path))?;
                self.file.insert(BufWriter::with_capacity(64 << 10, file))
            }
        };
        file.write_all(bytes).map_err(OutputError::io(&self.path))
    }

    /// Writes the index; a shard without a chunk is no file, and one that stood there is removed.
    pub(super) fn finish(mut self) -> Result<(), OutputError> {
        if self.file.is_none() {
            return remove_if_there(&self.path);
        }
        let index: Vec<u8> = self.index.iter().flatten().flat_map(|n| n.to_le_bytes()).collect();
        let index = Crc32cCodec::new().encode(Cow::Owned(index), &CodecOptions::default());
        let index = index.map_err(OutputError::format(FORMAT, &self.path))?;
        self.append(&index)?;
        let file = self.file.take().expect("a chunk was appended");
        file.into_inner().map_err(|e| OutputError::io(&self.path)(e.into_error()))?;
        Ok(())
    }
}

/// Removes a file; its absence is fine.
fn remove_if_there(path: &Path) -> Result<(), OutputError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(OutputError::io(path)(e)),
        _ => Ok(()),
    }
}

/// Chunk `col` of a row of chunks; nothing when all of it has the fill value.
fn encode<T: Label>(
    band: &[T],
    col: usize,
    shape: &ShardShape<T>,
) -> Result<Option<Vec<u8>>, zarrs::array::CodecError> {
    let (side, line) = (shape.chunk_px, shape.chunks * shape.chunk_px);
    let rows = || band.chunks_exact(line).map(|line| &line[col * side..][..side]);
    if rows().all(|row| row.iter().all(|&v| v == shape.fill)) {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(side * side * size_of::<T>());
    rows().for_each(|row| T::put(row, &mut bytes));
    let codec = ZstdCodec::new(shape.zstd_level, false);
    Ok(Some(codec.encode(Cow::Owned(bytes), &CodecOptions::default())?.into_owned()))
}
