//! Finished parts on disk, so that a slide goes on where it was when its process died.
//!
//! Owns: [`Journal`], [`replay`], the layout. Must not know: what becomes of the parts.
//!
//! A part is appended as soon as it is finished and survives the process at once; every few seconds the file is
//! flushed, so that it survives the machine. Each entry carries its length and a checksum: a torn end is not read.
//! Layout: a line `wsi-run journal 1 <identity>`, then per part `u32` length, `u32` CRC-32, and that many bytes.

use super::{OutputError, SlidePart, record};
use crate::geometry::{Rect, Target};
use flate2::Crc;
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Name of the file in the place of its slide.
pub(super) const NAME: &str = "journal";
/// Work that may be lost with the machine.
const SYNC_INTERVAL: Duration = Duration::from_secs(15);
/// Largest core of a region: a damaged entry must not ask for more memory than a sound one.
const MAX_CORE_PX: usize = 1 << 28;
const NUCLEI: u8 = 0;
const SEMANTIC: u8 = 1;
const PROB: u8 = 2;

/// Takes finished parts.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    synced: Instant,
    entry: Vec<u8>,
}

fn first_line(identity: &str) -> String {
    format!("wsi-run journal 1 {}\n", identity.replace('\n', " "))
}

impl Journal {
    /// An empty journal in a new file.
    pub(super) fn create(path: PathBuf, identity: &str) -> Result<Self, OutputError> {
        let mut file = File::create(&path).map_err(OutputError::io(&path))?;
        file.write_all(first_line(identity).as_bytes()).map_err(OutputError::io(&path))?;
        Ok(Self { path, file, synced: Instant::now(), entry: Vec::new() })
    }

    /// Adds a part.
    pub(super) fn append(&mut self, part: &SlidePart) -> Result<(), OutputError> {
        self.entry.clear();
        self.entry.extend_from_slice(&[0; 8]);
        put(part, &mut self.entry);
        let mut crc = Crc::new();
        crc.update(&self.entry[8..]);
        let len = (self.entry.len() - 8) as u32;
        self.entry[..4].copy_from_slice(&len.to_le_bytes());
        self.entry[4..8].copy_from_slice(&crc.sum().to_le_bytes());
        // One write: what a killed process leaves is whole entries.
        self.file.write_all(&self.entry).map_err(OutputError::io(&self.path))?;
        if self.synced.elapsed() >= SYNC_INTERVAL {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes everything so far survive the machine.
    pub(super) fn sync(&mut self) -> Result<(), OutputError> {
        self.synced = Instant::now();
        self.file.sync_data().map_err(OutputError::io(&self.path))
    }
}

/// Calls `take` with the parts of every finished core: its probabilities, when there are any, and then its classes or
/// nuclei. A journal that is missing, torn or of another identity gives what it has, maybe nothing.
pub fn replay(
    path: &Path,
    identity: &str,
    take: &mut dyn FnMut(Vec<SlidePart>) -> Result<(), OutputError>,
) -> Result<(), OutputError> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut line = Vec::new();
    let read = file.by_ref().take(4096).read_until(b'\n', &mut line);
    if read.is_err() || line != first_line(identity).as_bytes() {
        return Ok(());
    }
    let mut probs: HashMap<(i64, i64), SlidePart> = HashMap::new();
    while let Some(part) = next_entry(&mut file) {
        let core = part.core();
        if matches!(part, SlidePart::Prob { .. }) {
            probs.insert((core.x, core.y), part);
        } else {
            take(probs.remove(&(core.x, core.y)).into_iter().chain([part]).collect())?;
        }
    }
    Ok(())
}

/// The next part; nothing at the end or from the first damaged entry on.
fn next_entry(file: &mut impl Read) -> Option<SlidePart> {
    let mut head = [0; 8];
    file.read_exact(&mut head).ok()?;
    let [len, sum] = [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
    let mut entry = Vec::new();
    io::copy(&mut file.take(len.into()), &mut entry).ok()?;
    let mut crc = Crc::new();
    crc.update(&entry);
    (entry.len() == len as usize && crc.sum() == sum).then(|| take_part(&entry)).flatten()
}

fn put(part: &SlidePart, out: &mut Vec<u8>) {
    let head = |tag: u8, out: &mut Vec<u8>| {
        let core = part.core();
        out.push(tag);
        out.extend_from_slice(&core.x.to_le_bytes());
        out.extend_from_slice(&core.y.to_le_bytes());
        out.extend_from_slice(&core.w.to_le_bytes());
        out.extend_from_slice(&core.h.to_le_bytes());
    };
    match part {
        SlidePart::Nuclei { computed, instances, .. } => {
            head(NUCLEI, out);
            put_stretches(computed, out);
            out.extend_from_slice(&(instances.len() as u32).to_le_bytes());
            instances.iter().for_each(|instance| record::put(instance, &instance.runs, out));
        }
        SlidePart::Semantic { classes, .. } => {
            head(SEMANTIC, out);
            put_stretches(classes, out);
        }
        // A slide's tiles come as one, at the end: there is nothing to go on from.
        SlidePart::Tiles { .. } => {}
        SlidePart::Prob { channels, data, .. } => {
            head(PROB, out);
            out.extend_from_slice(&channels.to_le_bytes());
            out.extend_from_slice(data);
        }
    }
}

/// Stretches of equal values: number of them, then each value and length.
fn put_stretches(values: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count = 0_u32;
    for stretch in values.chunk_by(|a, b| a == b) {
        out.push(stretch[0]);
        out.extend_from_slice(&(stretch.len() as u32).to_le_bytes());
        count += 1;
    }
    out[at..at + 4].copy_from_slice(&count.to_le_bytes());
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn take_stretches(bytes: &mut &[u8], len: usize) -> Option<Vec<u8>> {
    let mut values = Vec::with_capacity(len.min(1 << 22));
    for _ in 0..u32::from_le_bytes(take_array(bytes)?) {
        let [value] = take_array(bytes)?;
        let n = u32::from_le_bytes(take_array(bytes)?) as usize;
        if n > len - values.len() {
            return None;
        }
        values.resize(values.len() + n, value);
    }
    (values.len() == len).then_some(values)
}

fn take_part(mut bytes: &[u8]) -> Option<SlidePart> {
    let bytes = &mut bytes;
    let [tag] = take_array(bytes)?;
    let (x, y) = (i64::from_le_bytes(take_array(bytes)?), i64::from_le_bytes(take_array(bytes)?));
    let (w, h) = (u32::from_le_bytes(take_array(bytes)?), u32::from_le_bytes(take_array(bytes)?));
    let core: Rect<Target> = Rect::new(x, y, w, h);
    let px = usize::try_from(core.area()).ok().filter(|&px| px <= MAX_CORE_PX)?;
    match tag {
        NUCLEI => {
            let computed = take_stretches(bytes, px)?;
            let count = u32::from_le_bytes(take_array(bytes)?);
            let instances = (0..count).map(|_| record::take_whole(bytes)).collect::<Option<_>>()?;
            Some(SlidePart::Nuclei { core, computed, instances })
        }
        SEMANTIC => Some(SlidePart::Semantic { core, classes: take_stretches(bytes, px)? }),
        PROB => {
            let channels = u32::from_le_bytes(take_array(bytes)?);
            let data = bytes.to_vec();
            (Some(data.len()) == px.checked_mul(channels as usize)).then_some(SlidePart::Prob { core, channels, data })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::{Features, Instance, Run};

    fn parts() -> Vec<SlidePart> {
        let core = |i: i64| Rect::new(i * 4, 0, 4, 2);
        let instance = Instance {
            class: 1,
            class_probs: vec![0.5],
            runs: vec![Run { y: 0, x0: 1, x1: 3 }, Run { y: 1, x0: 1, x1: 2 }],
            centroid: (1.5, 0.5),
            rings: vec![vec![[1.0, 0.0], [3.0, 0.0], [3.0, 1.0]]],
            truncated: false,
            features: Features::default(),
        };
        vec![
            SlidePart::Prob { core: core(0), channels: 1, data: (0..8).collect() },
            SlidePart::Prob { core: core(1), channels: 1, data: vec![9; 8] },
            SlidePart::Nuclei { core: core(0), computed: vec![1, 1, 1, 0, 0, 1, 1, 1], instances: vec![instance] },
            SlidePart::Semantic { core: core(2), classes: vec![0, 0, 3, 255, 255, 1, 1, 1] },
        ]
    }

    fn journal(dir: &Path) -> PathBuf {
        let path = dir.join(NAME);
        let mut journal = Journal::create(path.clone(), "me").unwrap();
        parts().iter().for_each(|part| journal.append(part).unwrap());
        path
    }

    fn replayed(path: &Path, identity: &str) -> Vec<SlidePart> {
        let mut found = vec![];
        replay(path, identity, &mut |parts| {
            found.extend(parts);
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn finished_cores_come_back_as_they_were_and_half_finished_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = journal(dir.path());
        let mut expected = parts();
        expected.remove(1); // Probabilities whose nuclei never came.
        assert_eq!(replayed(&path, "me"), expected);
        assert_eq!(replayed(&path, "you"), []);
        assert_eq!(replayed(&dir.path().join("none"), "me"), []);
    }

    #[test]
    fn a_journal_cut_or_changed_anywhere_gives_only_whole_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = journal(dir.path());
        let (bytes, whole) = (std::fs::read(&path).unwrap(), replayed(&path, "me"));
        for at in 0..bytes.len() {
            std::fs::write(&path, &bytes[..at]).unwrap();
            let cut = replayed(&path, "me");
            assert_eq!(cut[..], whole[..cut.len()], "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            std::fs::write(&path, &changed).unwrap();
            assert!(replayed(&path, "me").iter().all(|part| whole.contains(part)), "changed at {at}");
        }
    }
}
