//! What a slide's results depend on, as one digest.
//!
//! Owns: [`Fingerprint`], [`SettingsDigest`], [`OUTPUT_VERSION`]. Must not know: how a slide is run.
//!
//! A file is taken for unchanged while its size and modification time are: its content is hashed only when they
//! differ. Settings that cannot change a result (threads, batches, where results go) are left out.

use crate::{
    config::settings::{Settings, SlideSource, Stain, StainReference, TissueMethod},
    slides::{self, EntrySource, SlideEntry},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Raised whenever the same slide and settings give other pixels or rows than before.
pub const OUTPUT_VERSION: u32 = 4;

/// A file a result depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Its name, without the folder.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Modification time, ns since 1970.
    pub modified_ns: i128,
}

/// What the results of a slide depend on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fingerprint {
    /// sha256 of everything: equal digests mean equal results.
    pub digest: String,
    /// The slide's files, and those that say where its tissue is.
    pub inputs: Vec<InputFile>,
    /// Identity of the slide's content; none of a synthetic or a missing slide.
    pub content: Option<String>,
}

/// The part of a fingerprint that all slides of a run share.
#[derive(Debug, Clone)]
pub struct SettingsDigest {
    digest: String,
    slides: crate::config::settings::Slides,
    tissue: TissueMethod,
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}

/// A file as it is now; none when it is not there.
pub(super) fn input(path: &Path) -> Option<InputFile> {
    let meta = std::fs::metadata(path).ok()?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let modified_ns = meta.modified().ok()?.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
    Some(InputFile { name, bytes: meta.len(), modified_ns })
}

impl SettingsDigest {
    /// Of `settings` with the files they name for all slides; `weights` are names and sha256.
    pub fn new(settings: &Settings, weights: &[(String, String)]) -> Self {
        let mut all = serde_json::to_value(settings).unwrap_or(Value::Null);
        let mut slides = json!({ "reader": settings.slides.reader });
        if let SlideSource::Synthetic(synthetic) = &settings.slides.source {
            slides["synthetic"] = json!({ "drawn": synthetic });
            slides["synthetic"]["drawn"]["count"] = Value::Null;
        }
        all["slides"] = slides;
        all["batch"] = Value::Null;
        all["stitch"]["block_px"] = Value::Null;
        // Left out: results of versions that did not know it stay what they are.
        all["stitch"].as_object_mut().map(|stitch| stitch.shift_remove("on_device"));
        all["instances"]["region_px"] = Value::Null;
        all["output"]["dir"] = Value::Null;
        all["output"]["report"] = Value::Null;
        all["run"] = json!({ "on_tile_error": settings.run.on_tile_error });
        let reference = match &settings.pixels.stain {
            Stain::Macenko(StainReference::Image(path))
            | Stain::Reinhard(StainReference::Image(path))
            | Stain::Vahadane(StainReference::Image(path))
            | Stain::Ruifrok(StainReference::Image(path)) => slides::content_hash(path).ok(),
            _ => None,
        };
        let text = json!([OUTPUT_VERSION, all, weights, reference]).to_string();
        Self { digest: sha256(&text), slides: settings.slides.clone(), tissue: settings.tissue.method.clone() }
    }

    /// The fingerprint of a slide as it lies on disk now; `before` spares hashing what has not changed since.
    pub fn of(&self, entry: &SlideEntry, before: Option<&Fingerprint>) -> Fingerprint {
        let (mut inputs, mut content) = (vec![], None);
        if entry.source == EntrySource::File {
            let files = slides::files_of(&entry.path);
            inputs = files.iter().chain(&self.tissue_files(&entry.path)).filter_map(|path| input(path)).collect();
            // One that could not be read then may be readable now.
            content = match before.filter(|before| before.inputs == inputs && before.content.is_some()) {
                Some(before) => before.content.clone(),
                None => slides::content_hash(&entry.path).ok(),
            };
        }
        let mpp = slides::stated_mpp(entry, &self.slides);
        let mpp = mpp.ok().flatten().map(|mpp| (mpp.x.um_per_px().to_bits(), mpp.y.um_per_px().to_bits()));
        let text = json!([self.digest, entry.id, entry.path.to_string_lossy(), inputs, content, mpp]).to_string();
        Fingerprint { digest: sha256(&text), inputs, content }
    }

    /// Files that say where the slide's tissue is, by every name they may have.
    fn tissue_files(&self, slide: &Path) -> Vec<PathBuf> {
        let (dir, extensions): (_, &[&str]) = match &self.tissue {
            TissueMethod::MaskDir(dir) => (dir, &["png", "tif", "tiff"]),
            TissueMethod::GeojsonDir(dir) => (dir, &["geojson", "geojson.gz"]),
            _ => return vec![],
        };
        let stem = slide.file_stem().unwrap_or_default().to_string_lossy();
        extensions.iter().map(|extension| dir.join(format!("{stem}.{extension}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{environment::Environment, resolve::load_text};

    fn settings(sets: &[&str]) -> Settings {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        let yaml = "slides: { dir: slides }\nmodel: hematoxylin\noutput: { dir: out }\n";
        load_text("p.yaml", yaml, &sets, &Environment { threads: None, cpus: 2 }).unwrap().settings
    }

    fn digest(sets: &[&str]) -> String {
        SettingsDigest::new(&settings(sets), &[]).digest
    }

    #[test]
    fn only_settings_that_change_results_change_the_fingerprint() {
        let usual = digest(&[]);
        for set in [
            "run.threads=7",
            "run.memory=8GiB",
            "run.slides_in_flight=5",
            "batch.size=3",
            "output.dir=elsewhere",
            "stitch.block_px=512",
            "stitch.on_device=false",
            "instances.region_px=512",
            "slides.exclude=x*",
        ] {
            assert_eq!(digest(&[set]), usual, "{set}");
        }
        for set in [
            "run.on_tile_error=fail_slide",
            "tissue.min_area_um2=5",
            "instances.watershed.threshold=0.7",
            "output.parquet=false",
            "model.hematoxylin.min_od=0.2",
            "pixels.stain={macenko: {reference: standard}}",
        ] {
            assert_ne!(digest(&[set]), usual, "{set}");
        }
        let weights = [("net".to_owned(), "00".to_owned())];
        assert_ne!(SettingsDigest::new(&settings(&[]), &weights).digest, usual);
    }

    #[test]
    fn a_changed_slide_changes_its_fingerprint_and_an_unchanged_one_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tif");
        std::fs::write(&path, "one").unwrap();
        let entry = SlideEntry { id: "a".into(), path: path.clone(), source: EntrySource::File };
        let shared = SettingsDigest::new(&settings(&[]), &[]);
        let first = shared.of(&entry, None);
        assert_eq!(shared.of(&entry, Some(&first)), first);
        let known = Fingerprint { content: Some("known".into()), ..first.clone() };
        assert_eq!(shared.of(&entry, Some(&known)).content, known.content);
        std::fs::write(&path, "two!").unwrap();
        assert_ne!(shared.of(&entry, Some(&first)).digest, first.digest);
    }
}
