//! Arrays of numbers in files.

use super::{annotations::label_map, files, results::make, scratch, write};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use wsi_run::{
    config::settings::data::Outlines,
    geometry::{Size, TargetGrid},
    train::data::{LabelMap, SlideMask, read_labels},
    units::{Mpp, MppXy},
};

/// Endings of files with a number per px.
const ENDINGS: [&str; 5] = ["npy", "npz", "mat", "png", "tif"];

/// Numbers of px are as many as there are px, or the file is refused. The first byte tells the format.
pub fn labels(bytes: &[u8]) {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| scratch("labels"));
    let Some((&format, bytes)) = bytes.split_first() else { return };
    let path = dir.join("labels").with_extension(ENDINGS[usize::from(format) % ENDINGS.len()]);
    write(&path, bytes);
    match read_labels(&path) {
        Ok(found) => {
            let px = found.image.w as usize * found.image.h as usize;
            assert_eq!(found.image.labels.len(), px);
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
}

pub fn labels_seeds() -> Vec<Vec<u8>> {
    let of = |(format, ending): (usize, &str)| {
        let dir = if format < 3 { "fixtures/data_sets" } else { "fixtures/slides" };
        let with_format = move |file: Vec<u8>| [&[format as u8], &file[..]].concat();
        files(dir, &[&format!(".{ending}")], 25_000).into_iter().map(with_format)
    };
    ENDINGS.into_iter().enumerate().flat_map(of).collect()
}

/// A mask in a Zarr array gives numbers or an error. The bytes up to the first zero are the metadata, the rest a chunk.
pub fn zarr(bytes: &[u8]) {
    static SET: OnceLock<(PathBuf, LabelMap)> = OnceLock::new();
    let (dir, labels) = SET.get_or_init(|| {
        let dir = scratch("zarr");
        fs::create_dir_all(dir.join("c/0")).expect("the directory of temporary files can be written");
        (dir, label_map())
    });
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    write(&dir.join("zarr.json"), &bytes[..end]);
    write(&dir.join("c/0/0"), bytes.get(end + 1..).unwrap_or_default());
    let mpp = Mpp::new(0.5).expect("it is positive");
    let grid = TargetGrid::new(Size::new(200, 150), MppXy::square(mpp), mpp);
    for outlines in [Outlines::Regions, Outlines::Nuclei] {
        if let Ok(mask) = SlideMask::open(dir, &grid, outlines) {
            let _ = mask.truth(grid.size.rect(), labels);
        }
    }
}

pub fn zarr_seeds() -> Vec<Vec<u8>> {
    let made = make("zarr-made");
    let array = |name: &str| {
        let dir = made.join("masks/synthetic-000.ome.zarr/labels").join(name).join("0");
        let read = |path: &Path| fs::read(path).expect("the results can be read");
        [read(&dir.join("zarr.json")), vec![0], read(&dir.join("c/0/0"))].concat()
    };
    ["semantic", "instances"].map(array).into()
}
