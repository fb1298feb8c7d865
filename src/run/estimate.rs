//! How much work each slide of a batch is, kept where all tasks of the batch find it, so that they deal alike.
//!
//! Owns: [`Estimates`], [`WorkEstimate`], [`in_one_unit`]. Must not know: how work is estimated.
//!
//! An estimate is put in place once, under a name that tells of the slide's files as they are (paths, sizes, times) and
//! of the settings it depends on. Whoever comes first decides, and nobody waits: estimates are the same whoever makes
//! them, but for a host that lacks a library or a mount, and there the others take what they find.

use super::{fingerprint::input, state::StateDir};
use crate::{
    config::settings::{Settings, Slides},
    output::unique_token,
    slides::{self, EntrySource, SlideEntry},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Raised whenever the same slide and settings give another estimate than before.
const ESTIMATE_VERSION: u32 = 1;

/// What is known of the work of a slide before it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkEstimate {
    /// Bytes of its files.
    pub bytes: u64,
    /// µm² of tissue, with what a slide costs beside its tissue; none where it could not be looked at.
    pub work_um2: Option<u64>,
}

/// The estimates of an output directory.
#[derive(Debug)]
pub struct Estimates {
    dir: PathBuf,
    slides: Slides,
    /// Of everything but the slide that estimates depend on.
    common: String,
}

impl Estimates {
    /// Those of slides that are run with `settings`.
    pub fn new(state: &StateDir, settings: &Settings) -> Self {
        let common = json!([ESTIMATE_VERSION, settings.tissue, settings.slides.reader]).to_string();
        Self { dir: state.path("work"), slides: settings.slides.clone(), common }
    }

    /// The estimate that is in place; where there is none, what `estimate` tells is put in place.
    ///
    /// What cannot be kept is told all the same: the next task finds out for itself.
    pub fn of(&self, entry: &SlideEntry, estimate: impl FnOnce() -> Option<u64>) -> WorkEstimate {
        if entry.source != EntrySource::File {
            return WorkEstimate { bytes: 1, work_um2: None };
        }
        let inputs: Vec<_> = slides::files_of(&entry.path).iter().filter_map(|path| input(path)).collect();
        let mpp = slides::stated_mpp(entry, &self.slides).ok().flatten();
        let mpp = mpp.map(|mpp| (mpp.x.um_per_px(), mpp.y.um_per_px()));
        let key = Sha256::digest(json!([self.common, entry.path.to_string_lossy(), inputs, mpp]).to_string());
        let key: String = key[..8].iter().map(|b| format!("{b:02x}")).collect();
        let path = self.dir.join(format!("{}.{key}.json", entry.id));
        read(&path).unwrap_or_else(|| {
            let bytes = inputs.iter().map(|file| file.bytes).sum();
            let mine = WorkEstimate { bytes, work_um2: estimate() };
            put_first(&path, &mine).ok().and_then(|()| read(&path)).unwrap_or(mine)
        })
    }
}

fn read(path: &Path) -> Option<WorkEstimate> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Puts `estimate` in place, whole, unless there is one.
fn put_first(path: &Path, estimate: &WorkEstimate) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let aside = dir.join(format!(".{}.tmp", unique_token()));
    fs::write(&aside, serde_json::to_vec(estimate)?)?;
    // A link is made for one only, on network file systems, too.
    let linked = match fs::hard_link(&aside, path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        // There are file systems without links; there the last one stays.
        Err(_) => return fs::rename(&aside, path),
        linked => linked,
    };
    fs::remove_file(&aside)?;
    linked
}

/// The work of slides in one unit: µm² where all could be looked at. The others count by their bytes, at as many µm²
/// per byte as those that could be looked at have.
pub fn in_one_unit(estimates: &[WorkEstimate]) -> Vec<u64> {
    let known = || estimates.iter().filter_map(|e| Some((u128::from(e.bytes), u128::from(e.work_um2?))));
    let (bytes, um2) = known().fold((0, 0), |sum, e| (sum.0 + e.0, sum.1 + e.1));
    let by_bytes = |e: &WorkEstimate| match (bytes, um2) {
        (0, _) | (_, 0) => e.bytes,
        _ => u64::try_from(u128::from(e.bytes) * um2 / bytes).unwrap_or(u64::MAX),
    };
    estimates.iter().map(|e| e.work_um2.unwrap_or_else(|| by_bytes(e))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{ReaderChoice, SlideSource};

    fn estimates(out: &Path) -> Estimates {
        let source = SlideSource::List(vec![]);
        let slides = Slides { source, exclude: vec![], mpp: None, mpp_csv: None, reader: ReaderChoice::Auto };
        Estimates { dir: StateDir::new(out).path("work"), slides, common: "as usual".into() }
    }

    fn slide(dir: &Path, bytes: usize) -> SlideEntry {
        let path = dir.join("a.svs");
        fs::write(&path, vec![1; bytes]).unwrap();
        SlideEntry { id: "a".into(), path, source: EntrySource::File }
    }

    #[test]
    fn the_first_estimate_stays_until_the_slide_changes() {
        let home = tempfile::tempdir().unwrap();
        let entry = slide(home.path(), 10);
        let all = estimates(home.path());
        assert_eq!(all.of(&entry, || None), WorkEstimate { bytes: 10, work_um2: None });
        // Another host could look at it: too late.
        assert_eq!(all.of(&entry, || Some(7)), WorkEstimate { bytes: 10, work_um2: None });
        let entry = slide(home.path(), 11);
        assert_eq!(all.of(&entry, || Some(7)), WorkEstimate { bytes: 11, work_um2: Some(7) });
        assert_eq!(all.of(&entry, || unreachable!()), WorkEstimate { bytes: 11, work_um2: Some(7) });
        let other = Estimates { common: "other settings".into(), ..estimates(home.path()) };
        assert_eq!(other.of(&entry, || Some(9)).work_um2, Some(9));
    }

    #[test]
    fn of_many_who_estimate_at_once_all_tell_the_same() {
        let home = tempfile::tempdir().unwrap();
        let entry = slide(home.path(), 10);
        let told: Vec<_> = std::thread::scope(|scope| {
            let each = |i: u64| {
                let (home, entry) = (home.path(), &entry);
                scope.spawn(move || estimates(home).of(entry, || Some(i)))
            };
            (0..16).map(each).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(told.iter().all(|e| *e == told[0]), "{told:?}");
    }

    #[test]
    fn an_output_directory_that_cannot_be_written_changes_no_estimate() {
        let home = tempfile::tempdir().unwrap();
        let entry = slide(home.path(), 10);
        // The slide's own file stands where the directory should be.
        assert_eq!(estimates(&entry.path).of(&entry, || Some(3)), WorkEstimate { bytes: 10, work_um2: Some(3) });
    }

    #[test]
    fn slides_that_could_not_be_looked_at_count_by_their_bytes() {
        let of = |bytes, work_um2| WorkEstimate { bytes, work_um2 };
        assert_eq!(in_one_unit(&[of(10, Some(30)), of(30, Some(10)), of(8, None)]), [30, 10, 8]);
        assert_eq!(in_one_unit(&[of(10, Some(1000)), of(7, None)]), [1000, 700]);
        assert_eq!(in_one_unit(&[of(10, None), of(7, None)]), [10, 7]);
        assert_eq!(in_one_unit(&[of(10, Some(0)), of(7, None)]), [0, 7]);
        assert_eq!(in_one_unit(&[of(1, Some(u64::MAX)), of(7, None)]), [u64::MAX; 2]);
    }
}
