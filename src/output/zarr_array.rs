//! One Zarr array of labels on disk: chunks encoded on their own, gathered into shards, each written once.
//!
//! Owns: [`ZarrArray`], [`Label`], the shard's bytes, the array's `zarr.json` or `.zarray`.
//! Must not know: slides, pyramids, groups.
//! Source: Zarr v3 core specification; `sharding_indexed` codec 1.0 (chunks, then the index of `(offset, nbytes)`
//! pairs as little-endian u64, `u64::MAX` twice for an empty chunk, then the index's crc32c); Zarr v2.
//!
//! Written here and not by a Zarr library because the encoded chunks of a shard are what is kept in memory while
//! results arrive: 1–3 % of the pixels they stand for. Tests read the files with other people's libraries.

use super::OutputError;
use crate::config::settings::OmeZarrVersion;
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
};

/// Chunks along one side of a shard.
pub(super) const SHARD_CHUNKS: u32 = 4;
const SHARD_SLOTS: usize = (SHARD_CHUNKS * SHARD_CHUNKS) as usize;
const FORMAT: &str = "OME-Zarr";

/// An encoded chunk; `None` when every pixel has the fill value.
pub(super) type Encoded = Option<Vec<u8>>;
/// The encoded chunks of a shard, by row and then column.
pub(super) type ShardChunks = [Encoded; SHARD_SLOTS];

/// A pixel type of label arrays.
pub(super) trait Label: Copy + PartialEq + Send + Sync + 'static {
    /// Zarr v3 data type.
    const V3: &'static str;
    /// Zarr v2 data type.
    const V2: &'static str;
    /// Bytes of a pixel.
    const BYTES: usize;
    /// Appends the pixels' little-endian bytes.
    fn to_le(px: &[Self], bytes: &mut Vec<u8>);
    /// Reads as many pixels as `px` holds.
    fn from_le(bytes: &[u8], px: &mut [Self]);
    /// The value, for metadata.
    fn number(self) -> u64;
}

impl Label for u8 {
    const V3: &'static str = "uint8";
    const V2: &'static str = "|u1";
    const BYTES: usize = 1;
    fn to_le(px: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(px);
    }
    fn from_le(bytes: &[u8], px: &mut [Self]) {
        px.copy_from_slice(bytes);
    }
    fn number(self) -> u64 {
        u64::from(self)
    }
}

impl Label for u32 {
    const V3: &'static str = "uint32";
    const V2: &'static str = "<u4";
    const BYTES: usize = 4;
    fn to_le(px: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend(px.iter().flat_map(|v| v.to_le_bytes()));
    }
    fn from_le(bytes: &[u8], px: &mut [Self]) {
        for (v, b) in px.iter_mut().zip(bytes.chunks_exact(4)) {
            *v = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        }
    }
    fn number(self) -> u64 {
        u64::from(self)
    }
}

thread_local! {
    // A zstd context costs more to make than a chunk costs to compress.
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// An array `[h, w]`, or `[planes, h, w]`, of label type `T`.
#[derive(Debug, Clone)]
pub(super) struct ZarrArray<T> {
    /// Directory of the array.
    pub dir: PathBuf,
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

impl<T: Label> ZarrArray<T> {
    /// Makes the directory and writes the array's metadata.
    pub(super) fn create(&self) -> Result<(), OutputError> {
        fs::create_dir_all(&self.dir).map_err(OutputError::io(&self.dir))?;
        let (name, meta) = match self.version {
            OmeZarrVersion::V05 => ("zarr.json", self.v3()),
            OmeZarrVersion::V04 => (".zarray", self.v2()),
        };
        write_json(&self.dir.join(name), &meta)
    }

    /// Pixels in a chunk.
    pub(super) fn chunk_area(&self) -> usize {
        (self.chunk_px as usize).pow(2)
    }

    /// Side of a shard in px.
    pub(super) fn shard_px(&self) -> u32 {
        self.chunk_px * SHARD_CHUNKS
    }

    /// Shards along x and y.
    pub(super) fn shard_grid(&self) -> (u32, u32) {
        (self.w.div_ceil(self.shard_px()), self.h.div_ceil(self.shard_px()))
    }

    fn v3(&self) -> Value {
        let with_planes = |first: u32, y: u32, x: u32| match self.planes {
            Some(_) => json!([first, y, x]),
            None => json!([y, x]),
        };
        let (chunk, shard) = (self.chunk_px, self.shard_px());
        let bytes = json!({"name": "bytes", "configuration": {"endian": "little"}});
        json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": with_planes(self.planes.unwrap_or(0), self.h, self.w),
            "data_type": T::V3,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": with_planes(1, shard, shard)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": self.fill.number(),
            "codecs": [{
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": with_planes(1, chunk, chunk),
                    "codecs": [
                        bytes,
                        {"name": "zstd", "configuration": {"level": self.zstd_level, "checksum": false}}
                    ],
                    "index_codecs": [bytes, {"name": "crc32c"}],
                    "index_location": "end"
                }
            }],
            "dimension_names": match self.planes { Some(_) => json!(["c", "y", "x"]), None => json!(["y", "x"]) },
            "attributes": {}
        })
    }

    fn v2(&self) -> Value {
        let with_planes = |first: u32, y: u32, x: u32| match self.planes {
            Some(_) => json!([first, y, x]),
            None => json!([y, x]),
        };
        json!({
            "zarr_format": 2,
            "shape": with_planes(self.planes.unwrap_or(0), self.h, self.w),
            "chunks": with_planes(1, self.chunk_px, self.chunk_px),
            "dtype": T::V2,
            "compressor": {"id": "zstd", "level": self.zstd_level},
            "fill_value": self.fill.number(),
            "order": "C",
            "filters": null,
            "dimension_separator": "/"
        })
    }

    /// Encodes one chunk; the same pixels always give the same bytes.
    pub(super) fn encode(&self, px: &[T]) -> Result<Encoded, OutputError> {
        debug_assert_eq!(px.len(), self.chunk_area());
        if px.iter().all(|&v| v == self.fill) {
            return Ok(None);
        }
        let level = self.zstd_level;
        BYTES
            .with_borrow_mut(|bytes| {
                bytes.clear();
                T::to_le(px, bytes);
                COMPRESSOR.with_borrow_mut(|slot| {
                    if slot.as_ref().is_none_or(|(l, _)| *l != level) {
                        *slot = Some((level, zstd::bulk::Compressor::new(level)?));
                    }
                    let (_, compressor) = slot.as_mut().expect("set just above");
                    let mut encoded = compressor.compress(bytes)?;
                    encoded.shrink_to_fit();
                    Ok(Some(encoded))
                })
            })
            .map_err(OutputError::io(&self.dir))
    }

    /// Decodes one chunk into `px`.
    ///
    /// # Errors
    /// When the bytes are not a zstd frame of exactly one chunk.
    pub(super) fn decode(&self, encoded: Option<&[u8]>, px: &mut [T]) -> Result<(), OutputError> {
        let Some(encoded) = encoded else {
            px.fill(self.fill);
            return Ok(());
        };
        let expected = self.chunk_area() * T::BYTES;
        BYTES.with_borrow_mut(|bytes| {
            bytes.clear();
            bytes.reserve(expected);
            let found = DECOMPRESSOR
                .with_borrow_mut(|slot| {
                    if slot.is_none() {
                        *slot = Some(zstd::bulk::Decompressor::new()?);
                    }
                    slot.as_mut().expect("set just above").decompress_to_buffer(encoded, bytes)
                })
                .map_err(OutputError::io(&self.dir))?;
            if found != expected {
                let reason = format!("a chunk holds `{found}` bytes, expected `{expected}`");
                return Err(OutputError::format(FORMAT, &self.dir)(reason));
            }
            T::from_le(bytes, px);
            Ok(())
        })
    }

    fn path(&self, plane: u32, row: u32, col: u32) -> PathBuf {
        let mut path = self.dir.clone();
        if self.version == OmeZarrVersion::V05 {
            path.push("c");
        }
        if self.planes.is_some() {
            path.push(plane.to_string());
        }
        path.join(row.to_string()).join(col.to_string())
    }

    /// Writes the shard in row `row`, column `col`; nothing when all of it is empty.
    pub(super) fn write_shard(&self, plane: u32, row: u32, col: u32, chunks: &ShardChunks) -> Result<(), OutputError> {
        match self.version {
            OmeZarrVersion::V05 => {
                if chunks.iter().any(Option::is_some) {
                    write_file(&self.path(plane, row, col), &shard_bytes(chunks))?;
                }
            }
            OmeZarrVersion::V04 => {
                for (slot, chunk) in chunks.iter().enumerate() {
                    let Some(chunk) = chunk else { continue };
                    let (r, c) = (slot as u32 / SHARD_CHUNKS, slot as u32 % SHARD_CHUNKS);
                    write_file(&self.path(plane, row * SHARD_CHUNKS + r, col * SHARD_CHUNKS + c), chunk)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a shard's chunks, still encoded; all `None` when it was not written.
    ///
    /// # Errors
    /// When a file cannot be read, or its index does not fit its size or its checksum.
    pub(super) fn read_shard(&self, plane: u32, row: u32, col: u32) -> Result<ShardChunks, OutputError> {
        let mut chunks: ShardChunks = Default::default();
        match self.version {
            OmeZarrVersion::V05 => {
                let path = self.path(plane, row, col);
                if let Some(bytes) = read_file(&path)? {
                    chunks = split_shard(&bytes).map_err(OutputError::format(FORMAT, &path))?;
                }
            }
            OmeZarrVersion::V04 => {
                for (slot, chunk) in chunks.iter_mut().enumerate() {
                    let (r, c) = (slot as u32 / SHARD_CHUNKS, slot as u32 % SHARD_CHUNKS);
                    *chunk = read_file(&self.path(plane, row * SHARD_CHUNKS + r, col * SHARD_CHUNKS + c))?;
                }
            }
        }
        Ok(chunks)
    }
}

fn shard_bytes(chunks: &ShardChunks) -> Vec<u8> {
    let stored: usize = chunks.iter().flatten().map(Vec::len).sum();
    let mut bytes = Vec::with_capacity(stored + SHARD_SLOTS * 16 + 4);
    let mut index = Vec::with_capacity(SHARD_SLOTS * 16);
    for chunk in chunks {
        let (offset, nbytes) = match chunk {
            Some(chunk) => (bytes.len() as u64, chunk.len() as u64),
            None => (u64::MAX, u64::MAX),
        };
        index.extend_from_slice(&offset.to_le_bytes());
        index.extend_from_slice(&nbytes.to_le_bytes());
        bytes.extend_from_slice(chunk.as_deref().unwrap_or_default());
    }
    let crc = crc32c::crc32c(&index);
    bytes.extend_from_slice(&index);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn split_shard(bytes: &[u8]) -> Result<ShardChunks, String> {
    let found = bytes.len();
    let data = found.checked_sub(SHARD_SLOTS * 16 + 4).ok_or(format!("shard of `{found}` bytes has no index"))?;
    let (index, crc) = bytes[data..].split_at(SHARD_SLOTS * 16);
    if crc32c::crc32c(index).to_le_bytes() != *crc {
        return Err("the shard's index does not match its checksum".to_owned());
    }
    let mut chunks: ShardChunks = Default::default();
    for (chunk, entry) in chunks.iter_mut().zip(index.chunks_exact(16)) {
        let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes"));
        let (offset, nbytes) = (number(0), number(8));
        if offset == u64::MAX && nbytes == u64::MAX {
            continue;
        }
        let end = offset.checked_add(nbytes).filter(|&end| end <= data as u64);
        let end = end.ok_or_else(|| format!("a chunk ends past the shard's `{data}` bytes of data"))?;
        *chunk = Some(bytes[offset as usize..end as usize].to_vec());
    }
    Ok(chunks)
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

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, OutputError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(OutputError::io(path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(dir: &Path, version: OmeZarrVersion) -> ZarrArray<u32> {
        ZarrArray { dir: dir.to_owned(), planes: None, h: 100, w: 70, chunk_px: 16, version, zstd_level: 3, fill: 0 }
    }

    #[test]
    fn a_shard_reads_back_as_written_and_empty_chunks_are_not_stored() {
        for version in [OmeZarrVersion::V05, OmeZarrVersion::V04] {
            let dir = tempfile::tempdir().unwrap();
            let array = array(dir.path(), version);
            array.create().unwrap();
            let px: Vec<u32> = (0..256).map(|i| i * 70_000).collect();
            let mut chunks: ShardChunks = Default::default();
            chunks[5] = array.encode(&px).unwrap();
            assert!(array.encode(&[0; 256]).unwrap().is_none());
            array.write_shard(0, 1, 0, &chunks).unwrap();
            let back = array.read_shard(0, 1, 0).unwrap();
            assert!(back == chunks);
            let mut decoded = vec![7; 256];
            array.decode(back[5].as_deref(), &mut decoded).unwrap();
            assert_eq!(decoded, px);
            assert!(array.read_shard(0, 0, 0).unwrap().iter().all(Option::is_none));
        }
    }

    #[test]
    fn a_damaged_shard_is_refused_and_never_panics() {
        let mut chunks: ShardChunks = Default::default();
        chunks[0] = Some(vec![1, 2, 3]);
        let good = shard_bytes(&chunks);
        assert!(split_shard(&good).unwrap() == chunks);
        for at in 3..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(split_shard(&bad).is_err(), "byte {at}");
        }
        for len in 0..good.len() {
            assert!(split_shard(&good[..len]).is_err());
        }
    }
}
