//! Bytes of a checkpoint, read where they lie: a file of gigabytes is never in memory as a whole.
//!
//! Owns: [`Source`], [`Cursor`]. Must not know: formats.

use super::Failure;
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// Bytes read ahead by a [`Cursor`].
const WINDOW_BYTES: usize = 1 << 16;

/// A file, or bytes in memory.
#[derive(Debug)]
pub(super) enum Source {
    File { file: File, len: u64 },
    Memory(Vec<u8>),
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let io = |e: std::io::Error| (format!("cannot be read: {e}"), None);
        let file = File::open(path).map_err(io)?;
        let about = file.metadata().map_err(io)?;
        if !about.is_file() {
            return Err(("cannot be read: not a file".to_owned(), Some("name the checkpoint itself")));
        }
        Ok(Self::File { file, len: about.len() })
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// `count` bytes from `at`. Nothing is allocated for bytes that are not there.
    pub(super) fn read(&self, at: u64, count: u64) -> Result<Vec<u8>, Failure> {
        let end = at.checked_add(count).filter(|&end| end <= self.len());
        let (Some(end), Ok(wanted)) = (end, usize::try_from(count)) else {
            let left = self.len().saturating_sub(at);
            let message = format!("file is cut off: `{left}` bytes after byte {at}, expected {count}");
            return Err((message, Some("copy or download the file again")));
        };
        match self {
            Self::File { file, .. } => {
                let mut bytes = vec![0; wanted];
                file.read_exact_at(&mut bytes, at).map_err(|e| (format!("cannot be read: {e}"), None))?;
                Ok(bytes)
            }
            Self::Memory(bytes) => Ok(bytes[at as usize..end as usize].to_vec()),
        }
    }
}

/// Reads a part of a [`Source`] from front to back.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    source: &'a Source,
    /// Position in the source of the next byte that is not in `window`.
    ahead: u64,
    end: u64,
    window: Vec<u8>,
    used: usize,
}

impl<'a> Cursor<'a> {
    /// The bytes from `start` up to `end`, which is cut to the source's length.
    pub(super) fn new(source: &'a Source, start: u64, end: u64) -> Self {
        Self { source, ahead: start, end: end.min(source.len()), window: vec![], used: 0 }
    }

    /// Position in the source of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.ahead - (self.window.len() - self.used) as u64
    }

    fn left(&self) -> u64 {
        self.end.saturating_sub(self.at())
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&[u8], Failure> {
        if count > self.left() {
            let message =
                format!("pickle is cut off: `{}` bytes after byte {}, expected {count}", self.left(), self.at());
            return Err((message, Some("copy or download the file again")));
        }
        let count = count as usize;
        if self.window.len() - self.used < count {
            self.window.drain(..self.used);
            self.used = 0;
            let missing = (count - self.window.len()).max(WINDOW_BYTES) as u64;
            let more = missing.min(self.end - self.ahead);
            let bytes = self.source.read(self.ahead, more)?;
            self.window.extend_from_slice(&bytes);
            self.ahead += more;
        }
        self.used += count;
        Ok(&self.window[self.used - count..self.used])
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.try_into().expect("take gives as many bytes as asked for"))
    }

    /// Goes past `count` bytes without reading them.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), Failure> {
        let ready = (self.window.len() - self.used) as u64;
        if count <= ready {
            self.used += count as usize;
        } else if count <= self.left() {
            self.ahead += count - ready;
            self.window.clear();
            self.used = 0;
        } else {
            self.take(count)?;
        }
        Ok(())
    }

    /// The bytes up to the next line feed, which is not part of them.
    pub(super) fn line(&mut self, longest: usize) -> Result<Vec<u8>, Failure> {
        let mut line = vec![];
        loop {
            match self.array::<1>()? {
                [b'\n'] => return Ok(line),
                [byte] if line.len() < longest => line.push(byte),
                _ => {
                    return Err((
                        format!("pickle has a line of more than `{longest}` bytes before byte {}", self.at()),
                        None,
                    ));
                }
            }
        }
    }
}
