//! All slides of a batch, so that its parts can tell whether they speak of the same one.
//!
//! Owns: [`SlideList`]. Must not know: who runs which.

use super::state::{StateDir, read_json, write_json};
use crate::{
    output::{OutputError, is_plain_name},
    slides::{self, EntrySource, SlideEntry},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A slide and how much work it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedSlide {
    /// Its id.
    pub id: String,
    /// Its path, `%` and two hex digits for bytes that are not UTF-8 and for `%`.
    pub path: String,
    /// Which of the synthetic slides it is; none for a file.
    pub synthetic: Option<u32>,
    /// Estimated work, in any unit that all slides of the list share.
    pub work: u64,
}

/// All slides of a batch, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlideList {
    /// sha256 of ids, paths and work.
    pub digest: String,
    /// The slides.
    pub slides: Vec<ListedSlide>,
}

impl SlideList {
    /// The list of `entries`; `work` is told per slide, in the same order.
    pub fn new(entries: &[SlideEntry], work: impl IntoIterator<Item = u64>) -> Self {
        let listed = |(entry, work): (&SlideEntry, u64)| ListedSlide {
            id: entry.id.clone(),
            path: escaped(&entry.path),
            synthetic: match entry.source {
                EntrySource::File => None,
                EntrySource::Synthetic { index } => Some(index),
            },
            work,
        };
        let mut slides: Vec<_> = entries.iter().zip(work).map(listed).collect();
        slides.sort_by(|a, b| a.id.cmp(&b.id));
        let mut hash = Sha256::new();
        for slide in &slides {
            hash.update(format!("{}\n{}\n{}\n", slide.id, slide.path, slide.work));
        }
        let digest = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        Self { digest, slides }
    }

    /// The list with what can be known of the work before a slide is opened: the bytes of its files. Background
    /// compresses to almost nothing, so that bytes go with tissue.
    pub fn by_bytes(entries: &[SlideEntry]) -> Self {
        let bytes = |entry: &SlideEntry| match entry.source {
            EntrySource::Synthetic { .. } => 1,
            EntrySource::File => {
                slides::files_of(&entry.path).iter().filter_map(|p| std::fs::metadata(p).ok()).map(|m| m.len()).sum()
            }
        };
        Self::new(entries, entries.iter().map(bytes))
    }

    /// The slides as they are run.
    pub fn entries(&self) -> Vec<SlideEntry> {
        let entry = |slide: &ListedSlide| SlideEntry {
            id: slide.id.clone(),
            path: unescaped(&slide.path),
            source: slide.synthetic.map_or(EntrySource::File, |index| EntrySource::Synthetic { index }),
        };
        self.slides.iter().map(entry).collect()
    }

    /// Writes `<state>/list.json`.
    ///
    /// # Errors
    /// [`OutputError`] of the file system.
    pub fn write(&self, dir: &StateDir) -> Result<(), OutputError> {
        write_json(&dir.path("list.json"), self)
    }

    /// The list that the last run of this output directory had; none when it names what is no slide of ours.
    pub fn read(dir: &StateDir) -> Option<Self> {
        read_json(&dir.path("list.json")).filter(|list: &Self| list.slides.iter().all(|s| is_plain_name(&s.id)))
    }
}

fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    }
    text
}

fn unescaped(text: &str) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_list_gives_its_slides_back_whatever_bytes_their_names_have() {
        let entry = |id: &str, name: &[u8]| SlideEntry {
            id: id.into(),
            path: Path::new(std::ffi::OsStr::from_bytes(name)).into(),
            source: EntrySource::File,
        };
        let entries = [entry("a", b"x/100%25 \xff\n.svs"), entry("b", "ä %.tif".as_bytes())];
        let list = SlideList::new(&entries, [1, 2]);
        let read: SlideList = serde_json::from_slice(&serde_json::to_vec(&list).unwrap()).unwrap();
        assert_eq!(read.entries(), entries);
        assert_ne!(SlideList::new(&entries[..1], [1]).digest, list.digest);
    }

    #[test]
    fn a_list_whose_slides_would_lie_elsewhere_is_none() {
        let home = tempfile::tempdir().unwrap();
        let dir = StateDir::new(home.path());
        for (id, is_read) in [("a", true), ("../a", false), ("/a", false), ("..", false), ("a/b", false), ("", false)] {
            let entry = SlideEntry { id: id.into(), path: "a.svs".into(), source: EntrySource::File };
            SlideList::new(&[entry], [1]).write(&dir).unwrap();
            assert_eq!(SlideList::read(&dir).is_some(), is_read, "{id}");
        }
    }
}
