//! Which files make up a data set: globs, annotations beside pictures, patients, resolutions.
//!
//! Owns: [`Files`], [`find`]. Must not know: what is in the files.

use super::source::Entry;
use crate::{
    config::settings::data::{DataSet, Layout, MppRule, PatientRule},
    train::TrainError,
    units::Mpp,
};
use globset::GlobBuilder;
use regex::Regex;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// What a layout is known for.
struct Known {
    images: &'static str,
    annotations: &'static str,
    mpp: Option<f64>,
    /// A regular expression whose first group is the patient.
    patient: Option<&'static str>,
}

/// A TCGA barcode up to the patient.
const TCGA: &str = r"(?:^|/)(TCGA-[^-/]+-[^-/]+)";

fn known(layout: Layout) -> Known {
    let known = |images, annotations, mpp, patient| Known { images, annotations, mpp, patient };
    match layout {
        Layout::SlidesOutlines => {
            known("*.{svs,tif,tiff,ndpi,mrxs,scn,bif,vms,vmu}", "{stem}.geojson", None, Some(TCGA))
        }
        Layout::SlidesMasks => known("*.{svs,ndpi,mrxs,scn,bif,vms,vmu}", "{stem}.ome.zarr", None, Some(TCGA)),
        Layout::Instances | Layout::Dsb2018 => known("images/*", "labels/{stem}.png", None, None),
        Layout::Dots => known("images/*", "labels/{stem}.csv", None, None),
        Layout::Masks => known("images/*", "masks/{stem}.png", None, None),
        Layout::Folders | Layout::Isicdm => known("**/*.{png,jpg,jpeg,tif,tiff}", "", None, None),
        Layout::Consep => known("**/Images/*.png", "{up}/Labels/{stem}.mat", Some(0.25), None),
        Layout::Pannuke => known("**/images.npy", "", Some(0.25), None),
        Layout::Kumar => known("**/{Images,Tissue Images}/*.tif", "{up}/Labels/{stem}.mat", Some(0.25), Some(TCGA)),
        Layout::Cpm17 => known("**/Images/*.png", "{up}/Labels/{stem}.mat", Some(0.25), None),
        Layout::BrcaM2c => known("images/*.png", "labels/{stem}_gt_class_coords.txt", Some(0.5), Some(TCGA)),
        Layout::Breakhis => known("**/*X/*.png", "", None, Some(r"SOB_[BM]_[A-Z]+-(\d+-[0-9A-Z]+)-")),
        Layout::Sicapv2 => known("images/*.{jpg,png}", "masks/{stem}.png", Some(1.0), Some(r"(?:^|/)([^/_]+)_[^/]*$")),
        Layout::Bcss => known("{images,rgbs_colorNormalized}/*.png", "masks/{stem}.png", Some(0.25), Some(TCGA)),
    }
}

/// The files of an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// What splits divide.
    pub entry: Entry,
    /// The picture or slide.
    pub image: PathBuf,
    /// Its annotation; empty where the layout has none.
    pub annotation: PathBuf,
    /// Its resolution, where the set says one.
    pub mpp: Option<f64>,
}

/// How the files of a set lie.
///
/// # Errors
/// The settings do not say.
pub fn layout_of(set: &DataSet) -> Result<Layout, TrainError> {
    set.layout.ok_or_else(|| TrainError::new(format!("data set `{}` does not say its `layout`", set.name)))
}

/// The files of a set, sorted.
///
/// # Errors
/// No such folder; no file; a bad glob, pattern or CSV; a file of which a rule says nothing.
pub fn find(set: &DataSet) -> Result<Vec<Files>, TrainError> {
    let layout = layout_of(set)?;
    let known = known(layout);
    let glob = set.images.as_deref().unwrap_or(known.images);
    let fail = |message: String| TrainError::new(format!("data set `{}`: {message}: {}", set.name, set.path.display()));
    if !set.path.is_dir() {
        return Err(
            fail("found no such folder".to_owned()).hint("relative paths are relative to the current directory")
        );
    }
    let matcher = GlobBuilder::new(glob).literal_separator(true).build();
    let matcher = matcher.map_err(|e| fail(format!("`images` is no glob: {e}")))?.compile_matcher();
    let mut found: Vec<PathBuf> = vec![];
    for entry in walkdir::WalkDir::new(&set.path).follow_links(true) {
        let entry = entry.map_err(|e| fail(e.to_string()))?;
        let below = entry.path().strip_prefix(&set.path).unwrap_or(entry.path());
        if entry.file_type().is_file() && matcher.is_match(below) {
            found.push(below.to_owned());
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(fail(format!("no file matches `{glob}`")).hint(format!(
            "set `data.sets.{}.images` to a glob below its `path`, for example `images/*.png`",
            set.name
        )));
    }
    let patients = Patients::new(set, known.patient)?;
    let resolutions = Resolutions::new(set, known.mpp)?;
    let template = set.annotations.as_deref().unwrap_or(known.annotations);
    found
        .into_iter()
        .map(|below| {
            let id = below.to_string_lossy().replace('\\', "/");
            let image = set.path.join(&below);
            let entry = Entry { name: image.display().to_string(), patient: patients.of(&below, &id)?, id };
            let mpp = resolutions.of(&below)?;
            let annotation = annotation(set, layout, &below, template);
            Ok(Files { entry, image, annotation, mpp })
        })
        .collect()
}

/// The first of the alternatives that is there; the first one where none is.
fn annotation(set: &DataSet, layout: Layout, below: &Path, template: &str) -> PathBuf {
    if template.is_empty() {
        return PathBuf::new();
    }
    let stem = below.file_stem().unwrap_or_default().to_string_lossy();
    let folder = |path: Option<&Path>| path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = folder(below.parent());
    let up = folder(below.parent().and_then(Path::parent));
    let name = template.replace("{stem}", &stem).replace("{parent}", &parent).replace("{up}", &up);
    let path = set.path.join(name.trim_start_matches('/'));
    let others: &[&str] = match layout {
        _ if set.annotations.is_some() => &[],
        Layout::SlidesOutlines => &["geojson.gz", "xml"],
        Layout::SlidesMasks => &["zarr", "tif", "tiff", "png"],
        Layout::Instances => &["tif", "tiff", "npy", "npz", "mat", "xml", "geojson"],
        Layout::Dots => &["txt", "tsv", "geojson"],
        Layout::Masks => &["tif", "tiff", "npy", "npz", "mat"],
        _ => &[],
    };
    let kumar = || set.path.join(&up).join("Annotations").join(format!("{stem}.xml"));
    let candidates = others.iter().map(|e| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let bare = file.split_once(&*stem).map_or(&*stem, |_| &*stem);
        path.with_file_name(format!("{bare}.{e}"))
    });
    let extra = (layout == Layout::Kumar && set.annotations.is_none()).then(kumar);
    std::iter::once(path.clone()).chain(candidates).chain(extra).find(|p| p.exists()).unwrap_or(path)
}

fn pattern(set: &DataSet, key: &str, text: &str) -> Result<Regex, TrainError> {
    Regex::new(text).map_err(|e| {
        let message = format!("`data.sets.{}.{key}` is no regular expression: `{text}`", set.name);
        TrainError::new(message).hint(e.to_string())
    })
}

/// A CSV's column by the name of a picture.
fn column(set: &DataSet, path: &Path, name: &str, value: &str) -> Result<HashMap<String, String>, TrainError> {
    let inside = set.path.join(path);
    let path = if inside.is_file() { inside } else { path.to_owned() };
    let fail = |message: String| {
        let message = format!("data set `{}`: {message}: {}", set.name, path.display());
        TrainError::new(message).hint("a CSV whose first line names its columns")
    };
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .flexible(true)
        .from_path(&path)
        .map_err(|e| fail(e.to_string()))?;
    let headers = reader.headers().map_err(|e| fail(e.to_string()))?.clone();
    let find = |column: &str| {
        let all: Vec<&str> = headers.iter().collect();
        let at = headers.iter().position(|h| h.trim_start_matches('\u{feff}') == column);
        at.ok_or_else(|| fail(format!("no column `{column}`, found `{}`", all.join("`, `"))))
    };
    let (name, value) = (find(name)?, find(value)?);
    let mut map = HashMap::new();
    for record in reader.records() {
        let record = record.map_err(|e| fail(e.to_string()))?;
        if let (Some(name), Some(value)) = (record.get(name), record.get(value)) {
            map.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(map)
}

/// What a CSV says of a picture: by its path, file name or stem.
fn look_up<'a>(map: &'a HashMap<String, String>, below: &Path) -> Option<&'a str> {
    let names = [Some(below.as_os_str()), below.file_name(), below.file_stem()];
    names.into_iter().flatten().find_map(|n| map.get(n.to_string_lossy().as_ref())).map(String::as_str)
}

/// Who is on which picture.
enum Patients {
    File,
    Folder,
    Characters(usize),
    Pattern(Regex, bool),
    Csv(HashMap<String, String>, PathBuf),
}

impl Patients {
    fn new(set: &DataSet, known: Option<&str>) -> Result<Self, TrainError> {
        Ok(match (&set.patient, known) {
            (PatientRule::Known, None) | (PatientRule::File, _) => Self::File,
            (PatientRule::Known, Some(known)) => Self::Pattern(pattern(set, "patient", known)?, false),
            (PatientRule::Folder, _) => Self::Folder,
            (PatientRule::Characters(n), _) => Self::Characters(*n as usize),
            (PatientRule::Pattern(text), _) => Self::Pattern(pattern(set, "patient_pattern", text)?, true),
            (PatientRule::Csv { path, name, patient }, _) => Self::Csv(column(set, path, name, patient)?, path.clone()),
        })
    }

    fn of(&self, below: &Path, id: &str) -> Result<String, TrainError> {
        let stem = below.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match self {
            Self::File => Ok(id.to_owned()),
            Self::Folder => Ok(below.parent().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default()),
            Self::Characters(n) => Ok(stem.chars().take(*n).collect()),
            Self::Pattern(regex, is_required) => {
                let groups = regex.captures(id);
                let group = groups.as_ref().and_then(|g| g.iter().skip(1).flatten().next());
                match group {
                    Some(group) => Ok(group.as_str().to_owned()),
                    None if *is_required => {
                        Err(TrainError::new(format!("the pattern of patients `{regex}` finds none in `{id}`"))
                            .hint("its first group is the patient, for example `^images/(TCGA-..-....)`"))
                    }
                    // Its own patient: the rule is a layout's, and the file another's.
                    None => Ok(id.to_owned()),
                }
            }
            Self::Csv(map, path) => look_up(map, below).map(str::to_owned).ok_or_else(|| {
                TrainError::new(format!("no patient of `{id}` in the table: {}", path.display()))
                    .hint("the table names pictures by path, file name, or file name without extension")
            }),
        }
    }
}

/// Which picture has which resolution.
enum Resolutions {
    Is(Option<f64>),
    Name(Regex),
    Csv(HashMap<String, String>, PathBuf),
}

impl Resolutions {
    fn new(set: &DataSet, known: Option<f64>) -> Result<Self, TrainError> {
        Ok(match &set.mpp {
            MppRule::Known => Self::Is(known),
            MppRule::Is(mpp) => Self::Is(Some(mpp.um_per_px())),
            MppRule::Name(text) => Self::Name(pattern(set, "mpp_pattern", text)?),
            MppRule::Csv(path) => Self::Csv(column(set, path, "name", "mpp")?, path.clone()),
        })
    }

    fn of(&self, below: &Path) -> Result<Option<f64>, TrainError> {
        let checked = |text: Option<&str>, whence: String| {
            let mpp = text.and_then(|t| t.parse::<f64>().ok()).and_then(Mpp::new);
            mpp.map(|mpp| Some(mpp.um_per_px())).ok_or_else(|| {
                TrainError::new(format!("no resolution of `{}` in {whence}, expected µm per px", below.display()))
            })
        };
        match self {
            Self::Is(mpp) => Ok(*mpp),
            Self::Name(regex) => {
                let name = below.file_name().unwrap_or_default().to_string_lossy();
                let groups = regex.captures(&name);
                checked(groups.as_ref().and_then(|g| g.get(1)).map(|g| g.as_str()), format!("its name by `{regex}`"))
            }
            Self::Csv(map, path) => checked(look_up(map, below), format!("the table {}", path.display())),
        }
    }
}
