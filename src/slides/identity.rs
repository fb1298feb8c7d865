//! A slide's identity by content.
//!
//! Owns: [`content_hash`], [`files_of`]. Must not know: formats. Hashing gigabytes would cost more than running many slides, so
//! the size and pieces spread over the file are hashed: enough to tell two slides apart and to see a changed one.

use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Bytes of one piece.
const PIECE_BYTES: u64 = 64 << 10;
/// Pieces, evenly spread from the first byte to the last.
const PIECES: u64 = 32;

/// `sampled-sha256:<hex>` of the file's size and of pieces of its content; of the whole content when that is no more.
///
/// # Errors
/// Those of reading the file.
pub fn content_hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    if size <= PIECES * PIECE_BYTES {
        io::copy(&mut file, &mut hash)?;
    } else {
        let mut piece = vec![0; PIECE_BYTES as usize];
        for k in 0..PIECES {
            file.seek(SeekFrom::Start(k * (size - PIECE_BYTES) / (PIECES - 1)))?;
            file.read_exact(&mut piece)?;
            hash.update(&piece);
        }
    }
    let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("sampled-sha256:{hex}"))
}

/// Longest index of a slide of several files.
const MAX_INDEX_BYTES: u64 = 64 << 10;

/// Whether a file beside a slide is a part of it.
type IsPart = Box<dyn Fn(&Path) -> bool>;

/// The files that make up a slide, sorted: `path` first, then what its format keeps beside it.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let folder = path.parent().unwrap_or(Path::new(""));
    let (dir, is_part): (_, IsPart) = match extension.as_str() {
        // A folder of the slide's name holds the pixels.
        "mrxs" => (path.with_extension(""), Box::new(|_| true)),
        // It says what its pictures are called.
        "vms" | "vmu" => {
            let named = names_in(path);
            (folder.to_owned(), Box::new(move |p: &Path| p.file_name().is_some_and(|n| named.contains(n))))
        }
        // One series is many files of any name.
        "dcm" => (folder.to_owned(), Box::new(|p| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm")))),
        _ => return vec![path.to_owned()],
    };
    let searched = if dir.as_os_str().is_empty() { Path::new(".") } else { &dir };
    let entries = std::fs::read_dir(searched).into_iter().flatten().flatten().map(|e| dir.join(e.file_name()));
    let mut files: Vec<PathBuf> = entries.filter(|p| p != path && p.is_file() && is_part(p)).collect();
    files.sort();
    files.insert(0, path.to_owned());
    files
}

/// What is named in a file of lines `key=value`, as the index of a Hamamatsu slide is.
fn names_in(path: &Path) -> BTreeSet<OsString> {
    let mut text = Vec::new();
    // OpenSlide takes no longer one either.
    let read = File::open(path).and_then(|file| file.take(MAX_INDEX_BYTES).read_to_end(&mut text));
    let lines = read.map(|_| String::from_utf8_lossy(&text)).unwrap_or_default();
    lines.lines().filter_map(|line| Some(line.split_once('=')?.1.trim().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hamamatsu_slide_is_its_index_and_the_files_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let index = "[Virtual Microscope Specimen]\r\nImageFile=a.jpg\r\nImageFile(1,0)=a(1,0).jpg\r\n\
            OptimisationFile=gone.opt\r\nNoLayers=1\r\n";
        for (name, text) in [("a.vms", index), ("a.jpg", "1"), ("a(1,0).jpg", "2"), ("ab.vms", ""), ("ab.jpg", "3")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let of = |name: &str| files_of(&dir.path().join(name)).into_iter().map(|p| p.file_name().unwrap().to_owned());
        assert_eq!(of("a.vms").collect::<Vec<_>>(), ["a.vms", "a(1,0).jpg", "a.jpg"]);
        assert_eq!(of("ab.vms").collect::<Vec<_>>(), ["ab.vms"]);
        assert_eq!(of("gone.vms").collect::<Vec<_>>(), ["gone.vms"]);
    }

    #[test]
    fn one_changed_byte_at_either_end_changes_the_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slide");
        let mut bytes = vec![7u8; (PIECES * PIECE_BYTES) as usize * 2];
        let hash = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            content_hash(&path).unwrap()
        };
        let first = hash(&bytes);
        assert_eq!(first, hash(&bytes));
        *bytes.last_mut().unwrap() = 8;
        let last_changed = hash(&bytes);
        assert_ne!(first, last_changed);
        bytes[0] = 8;
        assert_ne!(last_changed, hash(&bytes));
        assert_ne!(hash(&bytes[..100]), hash(&bytes[..101]));
    }
}
