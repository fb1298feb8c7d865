//! Written aside, then renamed: a file under its final name is whole.
//!
//! Owns: [`Staging`], and how a file or directory is hashed. Must not know: formats.
//!
//! A slide's outputs are written under `<dir>/.partial/<slide>~<token>`, on the file system they will stay on; the
//! token is new for every [`Staging`], so that two processes that both believe to own a slide do not share a file.
//! `commit` flushes files and directories to disk and renames each into place; where a directory stood before, the two
//! are exchanged in one step. Dropping a [`Staging`] removes whatever was not committed, but for a checkpoint.

use super::{Artifact, OutputError, life};
use rayon::prelude::*;
use rustix::{
    fs::{CWD, RenameFlags},
    io::Errno,
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The folder of unfinished outputs.
pub const PARTIAL_DIR: &str = ".partial";

/// Where a place keeps what will be renamed.
const NEW_DIR: &str = "new";
/// The file that says that a place still is its owner's, and who that is. Folders come back when a process that was stopped goes on
/// writing into a place that was taken from it; this file does not.
const MARKER: &str = "owner";
/// What the places of single files begin with; no slide's id begins with a dot.
const FILE: &str = ".file-";
/// After so long nobody is still writing a small file, whatever cannot be known of its process.
const SILENCE: Duration = Duration::from_secs(3600);
/// How often a small file is begun anew when its place is taken away.
const FILE_TRIES: u32 = 3;

/// The unfinished outputs of one slide.
#[derive(Debug)]
pub(super) struct Staging {
    out_dir: PathBuf,
    slide: String,
    token: String,
    dir: PathBuf,
    /// Name of the file that stays when the rest is dropped.
    kept: Option<&'static str>,
}

/// A name that no other process and no other call gets: 16 letters and digits.
pub fn unique_token() -> String {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let mut hash = Sha256::new();
    hash.update(rustix::system::uname().nodename().to_bytes());
    hash.update(fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    hash.update(std::process::id().to_le_bytes());
    hash.update(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos()).to_le_bytes());
    hash.update(CALLS.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    hex(&hash.finalize()[..8])
}

/// Whether `name` names a file in a folder, and nothing beside or above it.
pub fn is_plain_name(name: &str) -> bool {
    Path::new(name).components().count() == 1 && !name.contains(['/', '\\', '\0']) && !matches!(name, "." | "..")
}

/// Makes a directory and those above it, also while another process removes an empty one above it.
fn make_dir(dir: &Path) -> Result<(), OutputError> {
    let mut tries = 0;
    loop {
        match fs::create_dir_all(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && tries < 100 => tries += 1,
            made => return made.map_err(OutputError::io(dir)),
        }
    }
}

impl Staging {
    /// An empty place for `slide`.
    pub(super) fn new(out_dir: &Path, slide: &str) -> Result<Self, OutputError> {
        if !is_plain_name(slide) {
            let reason = format!("slide id is `{slide}`, expected a plain file name");
            return Err(OutputError::format("output", out_dir)(reason));
        }
        let token = unique_token();
        let dir = out_dir.join(PARTIAL_DIR).join(format!("{slide}~{token}"));
        make_dir(&dir)?;
        // From here on what is left half-made is removed.
        let staging = Self { out_dir: out_dir.to_owned(), slide: slide.to_owned(), token, dir, kept: None };
        let (pid, marker) = (std::process::id(), staging.dir.join(MARKER));
        let owner = format!("{pid} {}", life::life_of(pid).unwrap_or_default());
        fs::write(&marker, owner).map_err(OutputError::io(&marker))?;
        Ok(staging)
    }

    /// From here on the file `name` of this place outlives it, unless it is committed.
    pub(super) fn keep(&mut self, name: Option<&'static str>) {
        self.kept = name;
    }

    /// Takes every other place of the slide for itself: whoever still writes there finds it gone. To be called only
    /// by the owner of the slide.
    pub(super) fn adopt(&self) -> Result<Vec<PathBuf>, OutputError> {
        let all = self.out_dir.join(PARTIAL_DIR);
        let mut adopted = Vec::new();
        for entry in fs::read_dir(&all).map_err(OutputError::io(&all))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_other =
                name.rsplit_once('~').is_some_and(|(slide, token)| slide == self.slide && token != self.token);
            let mine = all.join(format!("{}~{}-{}", self.slide, self.token, adopted.len()));
            // One that cannot be renamed is one that its owner has just removed.
            if is_other && fs::rename(entry.path(), &mine).is_ok() {
                adopted.push(mine);
            }
        }
        adopted.sort();
        Ok(adopted)
    }

    /// Where to write what will be called `relative`; the directories above it exist.
    pub(super) fn path(&self, relative: &Path) -> Result<PathBuf, OutputError> {
        let path = self.dir.join(NEW_DIR).join(relative);
        let parent = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent).map_err(OutputError::io(parent))?;
        Ok(path)
    }

    /// Where to write what is not an output.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes `outputs` durable and puts them under their final names; removes `stale` ones of an earlier run.
    pub(super) fn commit(mut self, outputs: &[PathBuf], stale: &[PathBuf]) -> Result<Vec<Artifact>, OutputError> {
        let digested = outputs.par_iter().map(|relative| {
            let (bytes, sha256) = digest(&self.path(relative)?, true)?;
            Ok(Artifact { path: relative.clone(), bytes, sha256 })
        });
        let mut artifacts = digested.collect::<Result<Vec<_>, OutputError>>()?;
        // From here on no folder is made in this place: were it taken now, the renames would find nothing.
        let marker = self.dir.join(MARKER);
        fs::metadata(&marker).map_err(OutputError::io(&marker))?;
        for relative in outputs {
            let (new, end) = (self.dir.join(NEW_DIR).join(relative), self.out_dir.join(relative));
            let parent = end.parent().unwrap_or(&self.out_dir);
            fs::create_dir_all(parent).map_err(OutputError::io(parent))?;
            replace(&new, &end).map_err(OutputError::io(&end))?;
            sync_dir(parent)?;
        }
        for relative in stale {
            remove(&self.out_dir.join(relative))?;
        }
        sync_dir(&self.out_dir)?;
        self.kept = None;
        artifacts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(artifacts)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort: the next run over this slide removes it too.
        if let (Some(kept), Ok(entries)) = (self.kept, fs::read_dir(&self.dir)) {
            entries.flatten().filter(|e| e.file_name() != kept).for_each(|e| drop(remove(&e.path())));
            return;
        }
        let _ = fs::remove_dir_all(&self.dir);
        // Only when no other slide is under way.
        let _ = fs::remove_dir(self.out_dir.join(PARTIAL_DIR));
    }
}

/// Writes one file of `out_dir` aside and renames it into place: `slides.parquet`, `run.json`, `report.html`.
///
/// # Errors
/// Those of `write`, and of the file system; then the file under the final name is the old one, or none.
pub fn write_whole(
    out_dir: &Path,
    relative: &Path,
    write: &mut dyn FnMut(&Path) -> Result<(), OutputError>,
) -> Result<Artifact, OutputError> {
    let name = format!("{FILE}{}", relative.to_string_lossy().replace(['/', '\\'], "_"));
    let mut tries = 0;
    loop {
        let written = Staging::new(out_dir, &name).and_then(|staging| {
            write(&staging.path(relative)?)?;
            staging.commit(&[relative.to_owned()], &[])
        });
        tries += 1;
        match written {
            // This process was stopped for so long that its place was swept away.
            Err(error) if error.is_of_a_taken_place() && tries < FILE_TRIES => {}
            written => return written.map(|mut artifacts| artifacts.remove(0)),
        }
    }
}

/// Puts a small file under its final name: whole and durable, or not at all.
///
/// # Errors
/// Those of the file system.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    make_dir(dir)?;
    let aside = dir.join(format!(".{}.tmp", unique_token()));
    let write = || {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    let written = write().map_err(OutputError::io(path));
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written.and_then(|()| sync_dir(dir))
}

/// Removes what killed processes left: of slides that are done, as `is_over` tells for each, and of single files whose
/// process is dead. `now` is the time by the clock of the file system; without it, what cannot be known stays.
pub fn sweep(out_dir: &Path, now: Option<SystemTime>, is_over: &dyn Fn(&str) -> bool) {
    for entry in fs::read_dir(out_dir.join(PARTIAL_DIR)).into_iter().flatten().flatten() {
        let (name, place) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let Some((of, _)) = name.rsplit_once('~') else { continue };
        let is_nobodys = if of.starts_with(FILE) { is_left(&place, now) } else { is_over(of) };
        if is_nobodys {
            // Best effort: it disturbs nobody.
            let _ = remove(&place);
        }
    }
    let _ = fs::remove_dir(out_dir.join(PARTIAL_DIR));
}

/// Whether nobody is writing in `place` any more: its process is dead, or, where that cannot be known, long silent.
fn is_left(place: &Path, now: Option<SystemTime>) -> bool {
    let owner = fs::read_to_string(place.join(MARKER)).unwrap_or_default();
    let known = owner.split_once(' ').and_then(|(pid, life)| life::is_over(pid.parse().ok()?, life));
    known.unwrap_or_else(|| is_older(place, now, SILENCE))
}

/// Whether `path` was last changed more than `age` before `now`.
fn is_older(path: &Path, now: Option<SystemTime>, age: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|meta| meta.modified());
    now.zip(modified.ok()).is_some_and(|(now, at)| now.duration_since(at).is_ok_and(|since| since > age))
}

/// Removes files of `dir` that killed processes were about to put in place, once they are old; `now` as for [`sweep`].
pub fn sweep_aside(dir: &Path, now: Option<SystemTime>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_aside = name.starts_with('.') && (name.ends_with(".tmp") || name.starts_with(".clock-"));
        if (is_aside || name.ends_with(".new")) && is_older(&entry.path(), now, SILENCE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Bytes and sha256 of a file, or of a directory's sorted `name sha256` lines; with `sync`, flushed to disk.
pub(super) fn digest(path: &Path, sync: bool) -> Result<(u64, String), OutputError> {
    if !path.is_dir() {
        return file_digest(path, sync);
    }
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for entry in walkdir::WalkDir::new(path).follow_links(false) {
        let entry = entry.map_err(|e| OutputError::unreadable(path)(e.into()))?;
        if entry.file_type().is_dir() {
            dirs.push(entry.into_path());
        } else {
            files.push(entry.into_path());
        }
    }
    let mut lines = files
        .par_iter()
        .map(|file| {
            let (bytes, sha256) = file_digest(file, sync)?;
            let name = file.strip_prefix(path).unwrap_or(file).to_string_lossy().replace('\\', "/");
            Ok((name, bytes, sha256))
        })
        .collect::<Result<Vec<_>, OutputError>>()?;
    if sync {
        dirs.par_iter().try_for_each(|dir| sync_dir(dir))?;
    }
    lines.sort();
    let mut hash = Sha256::new();
    let mut total = 0;
    for (name, bytes, sha256) in lines {
        hash.update(format!("{name} {sha256}\n"));
        total += bytes;
    }
    Ok((total, hex(&hash.finalize())))
}

fn file_digest(path: &Path, sync: bool) -> Result<(u64, String), OutputError> {
    let mut file = File::open(path).map_err(OutputError::unreadable(path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer).map_err(OutputError::unreadable(path))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
    if sync {
        file.sync_all().map_err(OutputError::io(path))?;
    }
    Ok((bytes, hex(&hash.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn sync_dir(path: &Path) -> Result<(), OutputError> {
    match File::open(path).and_then(|dir| dir.sync_all()) {
        // Some network file systems do not know how to flush a directory.
        Err(e) if e.kind() != io::ErrorKind::InvalidInput => Err(OutputError::io(path)(e)),
        _ => Ok(()),
    }
}

/// Puts `new` at `end`; what stood there is left at `new` or removed.
fn replace(new: &Path, end: &Path) -> io::Result<()> {
    if !end.is_dir() && !new.is_dir() {
        return fs::rename(new, end);
    }
    let is_free = || fs::symlink_metadata(end).is_err();
    if is_free() {
        match fs::rename(new, end) {
            // Another process has put the same result in place at this moment: then the name is taken after all.
            Err(_) if !is_free() => {}
            renamed => return renamed,
        }
    }
    match rustix::fs::renameat_with(CWD, new, CWD, end, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            // The file system cannot exchange two names: for a moment there is neither.
            let mut aside = new.as_os_str().to_owned();
            aside.push(".old");
            fs::rename(end, &aside)?;
            let renamed = fs::rename(new, end);
            if renamed.is_err() {
                let _ = fs::rename(&aside, end);
            }
            renamed
        }
        exchanged => Ok(exchanged?),
    }
}

/// Removes a file or directory; its absence is fine.
pub(super) fn remove(path: &Path) -> Result<(), OutputError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(OutputError::io(path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(staging: &Staging, relative: &str, text: &str) {
        let path = staging.path(Path::new(relative)).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_dropped_staging_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let staging = Staging::new(dir.path(), "a").unwrap();
        write(&staging, "masks/a/x", "1");
        drop(staging);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_checkpoint_outlives_its_staging_and_is_adopted_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Staging::new(dir.path(), "a").unwrap();
        let other = Staging::new(dir.path(), "a~b").unwrap();
        write(&first, "masks/a/x", "1");
        fs::write(first.scratch("journal"), "j").unwrap();
        first.keep(Some("journal"));
        drop(first);
        let second = Staging::new(dir.path(), "a").unwrap();
        let adopted = second.adopt().unwrap();
        assert_eq!(adopted.len(), 1);
        assert_eq!(fs::read_to_string(adopted[0].join("journal")).unwrap(), "j");
        assert_eq!(fs::read_dir(&adopted[0]).unwrap().count(), 1);
        assert!(other.dir.exists() && second.dir.exists());
    }

    #[test]
    fn a_place_that_was_taken_commits_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let slow = Staging::new(dir.path(), "a").unwrap();
        write(&slow, "masks/a/x", "1");
        let taker = Staging::new(dir.path(), "a").unwrap();
        taker.adopt().unwrap().iter().for_each(|place| remove(place).unwrap());
        // The slow one goes on as if nothing had happened.
        write(&slow, "masks/a/y", "2");
        assert!(slow.commit(&[PathBuf::from("masks/a")], &[]).is_err());
        assert!(!dir.path().join("masks").exists());
    }

    #[test]
    fn a_small_file_is_replaced_whole_and_leaves_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/a.json");
        for text in ["one", "two"] {
            write_atomically(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(dir.path().join("state")).unwrap().count(), 1);
    }

    #[test]
    fn committing_twice_replaces_files_and_directories_and_removes_stale_ones() {
        let dir = tempfile::tempdir().unwrap();
        for (text, extra) in [("one", true), ("two", false)] {
            let staging = Staging::new(dir.path(), "a").unwrap();
            write(&staging, "masks/a/x", text);
            write(&staging, "t.parquet", text);
            if extra {
                write(&staging, "masks/a/only-once", text);
                write(&staging, "old.png", text);
            }
            let mut outputs = vec![PathBuf::from("masks/a"), PathBuf::from("t.parquet")];
            let mut stale = vec![];
            if extra { &mut outputs } else { &mut stale }.push(PathBuf::from("old.png"));
            let artifacts = staging.commit(&outputs, &stale).unwrap();
            assert_eq!(artifacts.len(), outputs.len());
        }
        assert_eq!(fs::read_to_string(dir.path().join("masks/a/x")).unwrap(), "two");
        assert_eq!(fs::read_to_string(dir.path().join("t.parquet")).unwrap(), "two");
        assert!(!dir.path().join("masks/a/only-once").exists());
        assert!(!dir.path().join("old.png").exists());
        assert!(!dir.path().join(PARTIAL_DIR).exists());
    }

    #[test]
    fn a_directory_digest_is_that_of_its_sorted_lines() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("b/z"), "hello").unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let expected = hex(&Sha256::digest(format!("a {empty}\nb/z {hello}\n")));
        assert_eq!(digest(dir.path(), false).unwrap(), (5, expected));
    }

    #[test]
    fn a_slide_id_cannot_leave_the_output_directory() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["", "..", ".", "a/b", "/etc", "a\\b"] {
            assert!(Staging::new(dir.path(), id).is_err(), "{id}");
        }
    }
}
