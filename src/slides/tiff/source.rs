//! Bytes of a file, read by position: no seek pointer to share, no mapping of a file that may shrink.
//!
//! Owns: [`ByteSource`]. Must not know: TIFF.

use std::{fs::File, io};

/// Bytes that can be read at any position by many threads at once.
pub trait ByteSource: Send + Sync {
    /// How many bytes there are.
    fn len_bytes(&self) -> u64;

    /// Fills `buf` from byte `at` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the source ends before `buf` is full.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl<T: AsRef<[u8]> + Send + Sync> ByteSource for T {
    fn len_bytes(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).ok();
        let found = from.and_then(|from| self.as_ref().get(from..from.checked_add(buf.len())?));
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A file and its length when it was opened.
pub(super) struct FileSource {
    file: File,
    len_bytes: u64,
}

impl FileSource {
    /// # Errors
    /// Those of reading the file's length.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len_bytes = file.metadata()?.len();
        Ok(Self { file, len_bytes })
    }
}

impl ByteSource for FileSource {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    #[cfg(unix)]
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buf, at)
    }

    #[cfg(windows)]
    fn read_at(&self, mut at: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let n = std::os::windows::fs::FileExt::seek_read(&self.file, buf, at)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            (buf, at) = (&mut buf[n..], at + n as u64);
        }
        Ok(())
    }
}
