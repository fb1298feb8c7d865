//! From what the user named to slides: sorted, unique, each with an id that is a file name everywhere.
//!
//! Owns: [`discover`], [`SlideEntry`]. Must not know: pixels, what a reader can read.

mod naming;
mod series;

use crate::{
    config::settings::{SlideSource, Slides},
    error::one_line,
};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

/// Extensions of slides, lower case.
const EXTENSIONS: [&str; 16] = [
    "svs", "svslide", "tif", "tiff", "btf", "ndpi", "mrxs", "scn", "bif", "vms", "vmu", "czi", "dcm", "png", "jpg",
    "jpeg",
];

/// Where a slide's pixels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntrySource {
    /// A file.
    File,
    /// Drawn by the program.
    Synthetic {
        /// Which of the synthetic slides.
        index: u32,
    },
}

/// A slide that was found, not yet opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlideEntry {
    /// Unique in the run, and a safe file name: names every output of the slide.
    pub id: String,
    /// The file; of a DICOM series, its first.
    pub path: PathBuf,
    /// File or synthetic.
    pub source: EntrySource,
}

/// Why slides cannot be looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// A pattern is not a glob.
    #[error("invalid glob `{pattern}`: {reason}")]
    Glob {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory cannot be listed.
    #[error("cannot list slides: {reason}: {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

/// A file and the path its id is made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    path: PathBuf,
    /// Relative to the folder that the user named.
    name: PathBuf,
}

/// Finds the slides of the settings; relative paths and globs start at `base`.
///
/// Files that a list names are given whether they exist or not, so that a missing one becomes a failed slide.
///
/// # Errors
/// [`DiscoverError`]. Finding nothing is not an error.
pub fn discover(slides: &Slides, base: &Path) -> Result<Vec<SlideEntry>, DiscoverError> {
    if let SlideSource::Synthetic(synthetic) = &slides.source {
        let entry = |index: u32| SlideEntry {
            id: format!("synthetic-{index:03}"),
            path: format!("synthetic-{index:03}").into(),
            source: EntrySource::Synthetic { index },
        };
        return Ok((0..synthetic.count).map(entry).collect());
    }
    let exclude = globs(&slides.exclude)?;
    let found = match &slides.source {
        SlideSource::Glob(patterns) => {
            let mut found = Vec::new();
            for pattern in patterns {
                found.extend(by_glob(pattern, base)?);
            }
            found
        }
        SlideSource::Dir(dir) => {
            let dir = base.join(dir);
            match std::fs::metadata(&dir) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => {
                    let reason = "found a file, expected a folder".into();
                    return Err(DiscoverError::Directory { path: dir, reason });
                }
                Err(error) => return Err(DiscoverError::Directory { path: dir, reason: error.to_string() }),
            }
            walk(&dir, usize::MAX, &|path| has_known_extension(path))
        }
        SlideSource::List(paths) => list(paths, base),
        SlideSource::Synthetic(_) => Vec::new(),
    };
    let kept = found.into_iter().filter(|f| !is_excluded(&exclude, &slides.exclude, f, base));
    // One file found twice, by two patterns or through two links, is one slide.
    let unique: BTreeMap<PathBuf, Found> = kept.map(|f| (identity(&f.path), f)).rev_by_name();
    let found: BTreeSet<Found> = series::one_per_series(unique.into_values().collect());
    let ids = naming::ids(found.iter().map(|f| f.name.as_path()));
    let entry = |(found, id): (Found, String)| SlideEntry { id, path: found.path, source: EntrySource::File };
    Ok(found.into_iter().zip(ids).map(entry).collect())
}

/// Collects so that of equal keys the value with the shortest way from the folder stays, of equal ways the smallest: a
/// link to a folder above gives no slide another name. Whatever the order.
trait RevByName {
    fn rev_by_name(self) -> BTreeMap<PathBuf, Found>;
}

impl<I: Iterator<Item = (PathBuf, Found)>> RevByName for I {
    fn rev_by_name(self) -> BTreeMap<PathBuf, Found> {
        let mut all: Vec<_> = self.collect();
        all.sort_by_cached_key(|(_, found)| Reverse((found.name.components().count(), found.clone())));
        all.into_iter().collect()
    }
}

/// The file behind links, or the path itself when there is none.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn list(paths: &[PathBuf], base: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for path in paths {
        let whole = base.join(path);
        let name = whole.file_name().map_or_else(|| path.clone(), PathBuf::from);
        // A folder in a list is a DICOM series, or an error that opening it tells.
        let inside = if whole.is_dir() { walk(&whole, 1, &is_dicom) } else { Vec::new() };
        if inside.is_empty() {
            found.push(Found { path: whole, name });
        } else {
            found.extend(inside.into_iter().map(|f| Found { name: name.join(f.name), path: f.path }));
        }
    }
    found
}

fn is_dicom(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dcm"))
}

fn has_known_extension(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// Files under `dir` that `wanted` takes, in any order.
fn walk(dir: &Path, max_depth: usize, wanted: &dyn Fn(&Path) -> bool) -> Vec<Found> {
    // Links are followed; a link to a folder that holds it is reported as an error by walkdir, and passed over.
    let entries = walkdir::WalkDir::new(dir).follow_links(true).max_depth(max_depth).into_iter();
    let entries = entries.filter_entry(|e| e.depth() == 0 || !(e.file_type().is_dir() && is_companion(e.path())));
    let mut found = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if !entry.file_type().is_dir() && wanted(entry.path()) && !is_part(entry.path()) => {
                let name = entry.path().strip_prefix(dir).unwrap_or(entry.path()).to_owned();
                found.push(Found { path: entry.into_path(), name });
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("passed over while looking for slides: {}", one_line(error)),
        }
    }
    found
}

/// The folder of an MRXS slide: its tiles, not slides. Hidden folders hold none either.
fn is_companion(dir: &Path) -> bool {
    let hidden = dir.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
    let beside = |extension: &str| {
        let mut name = dir.as_os_str().to_owned();
        name.push(extension);
        Path::new(&name).is_file()
    };
    hidden || [".mrxs", ".MRXS"].into_iter().any(beside)
}

/// A picture that is a part of a Hamamatsu VMS slide, or a file left by macOS beside one.
fn is_part(path: &Path) -> bool {
    if path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"._")) {
        return true;
    }
    let picture = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e.eq_ignore_ascii_case("jpeg"));
    let beside = || std::fs::read_dir(path.parent().unwrap_or(Path::new("."))).ok();
    let is_vms = |path: PathBuf| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("vms"));
    picture && beside().is_some_and(|dir| dir.flatten().any(|e| is_vms(e.path())))
}

fn by_glob(pattern: &str, base: &Path) -> Result<Vec<Found>, DiscoverError> {
    let (dir, rest) = split_literal(pattern);
    let dir = base.join(dir);
    if rest.as_os_str().is_empty() {
        return Ok(if dir.is_file() { list(&[dir], base) } else { Vec::new() });
    }
    // The same folder with a name: what is found under it begins with that name.
    let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
    let matcher = globs(&[rest.to_string_lossy().into_owned()])?;
    let depth = rest.components().count();
    let max_depth = if pattern.contains("**") { usize::MAX } else { depth };
    // A pattern that names no extension means slides, not every file beside them.
    let any_extension = rest.extension().is_some_and(|e| e != "*");
    let wanted = |path: &Path| {
        let relative = path.strip_prefix(&dir).unwrap_or(path);
        matcher.is_match(relative) && (any_extension || has_known_extension(path))
    };
    Ok(if dir.is_dir() { walk(&dir, max_depth, &wanted) } else { Vec::new() })
}

/// The folders before the first part with a wildcard, and the rest.
fn split_literal(pattern: &str) -> (PathBuf, PathBuf) {
    let is_wild = |part: &Component<'_>| part.as_os_str().as_encoded_bytes().iter().any(|b| b"*?[{".contains(b));
    let parts: Vec<Component<'_>> = Path::new(pattern).components().collect();
    let literal = parts.iter().take_while(|part| !is_wild(part)).count();
    (parts[..literal].iter().collect(), parts[literal..].iter().collect())
}

fn globs(patterns: &[String]) -> Result<GlobSet, DiscoverError> {
    let mut set = GlobSetBuilder::new();
    let invalid = |pattern: &str, e: &globset::Error| DiscoverError::Glob {
        pattern: pattern.into(),
        reason: e.kind().to_string(),
    };
    for pattern in patterns {
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
        let glob = GlobBuilder::new(pattern).literal_separator(true).build().map_err(|e| invalid(pattern, &e))?;
        set.add(glob);
    }
    set.build().map_err(|e| invalid("", &e))
}

/// A pattern excludes by the path from `base`, from the folder that was searched, or, without `/`, by file name.
fn is_excluded(exclude: &GlobSet, patterns: &[String], found: &Found, base: &Path) -> bool {
    if exclude.is_empty() {
        return false;
    }
    let from_base = found.path.strip_prefix(base).unwrap_or(&found.path);
    let by_name = found
        .path
        .file_name()
        .is_some_and(|name| exclude.matches(name).into_iter().any(|i| !patterns[i].contains('/')));
    by_name || exclude.is_match(from_base) || exclude.is_match(&found.path) || exclude.is_match(&found.name)
}
