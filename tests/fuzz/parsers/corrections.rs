//! What comes back from experts, and earlier evaluations.

use super::{joined, parts, scratch, write};
use std::{fs, path::PathBuf, sync::OnceLock};
use wsi_run::{
    evaluate::{Before, FolderCases, TrueCases, TruthKind, refine::import},
    model::ClassInfo,
    train::class_tree::{ClassNode, ClassTree},
};

/// A grey picture of 8 × 8 px.
fn png() -> Vec<u8> {
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, 8, 8);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a vector can be written");
    writer.write_image_data(&[200; 8 * 8 * 3]).expect("a vector can be written");
    drop(writer);
    bytes
}

/// Corrections are imported or refused, and nothing is written beside the data set. Input: the table of images, what the
/// export says of itself, the outlines of the image `a`; zeros between them.
pub fn refine(bytes: &[u8]) {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = scratch("refine");
        for name in ["in/images", "in/geojson", "sets"] {
            fs::create_dir_all(dir.join(name)).expect("the directory of temporary files can be written");
        }
        write(&dir.join("in/images/a.png"), &png());
        // What a name that leads out would find.
        write(&dir.join("above.png"), &png());
        write(&dir.join("above.geojson"), b"[]");
        dir
    });
    let parts = parts(bytes);
    let part = |i: usize| parts.get(i).copied().unwrap_or_default();
    write(&dir.join("in/tiles.csv"), part(0));
    write(&dir.join("in/refine.json"), part(1));
    write(&dir.join("in/geojson/a.geojson"), part(2));
    let _ = import(&dir.join("in"), None, &dir.join("sets/new"));
    let beside = |name: &str| fs::read_dir(dir.join(name)).expect("it can be read").count();
    assert_eq!((beside(""), beside("in"), beside("in/images")), (4, 4, 1));
    assert!(beside("sets") <= 1);
    let _ = fs::remove_dir_all(dir.join("sets/new"));
}

pub fn refine_seeds() -> Vec<Vec<u8>> {
    let table: &[u8] = b"image,entropy,slide,organ,patient,x_px,y_px\na,0.5,s,liver,p,0,0\n";
    let about: &[u8] = br##"{"model":"m","network":"clin_seg_net","classes":[{"name":"tumour","color":[200,0,0]}],"mpp":0.5,"nuclei":false}"##;
    let nuclei = String::from_utf8_lossy(about).replace("false", "true");
    let outlines: &[u8] = br#"{"type":"FeatureCollection","features":[{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[1,1],[6,1],[6,6]]]},"properties":{"classification":{"name":"tumour"}}}]}"#;
    vec![joined(&[table, about, outlines]), joined(&[table, nuclei.as_bytes(), outlines])]
}

/// An earlier evaluation, a table of groups and a file of dots are read or refused. Input: `metrics.json`, `groups.csv`,
/// dots; zeros between them.
pub fn evaluation(bytes: &[u8]) {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = scratch("evaluation");
        for name in ["images", "truth"] {
            fs::create_dir_all(dir.join(name)).expect("the directory of temporary files can be written");
        }
        write(&dir.join("images/a.png"), &png());
        dir
    });
    let parts = parts(bytes);
    let part = |i: usize| parts.get(i).copied().unwrap_or_default();
    write(&dir.join("metrics.json"), part(0));
    write(&dir.join("groups.csv"), part(1));
    write(&dir.join("truth/a.txt"), part(2));
    let _ = Before::read(dir);
    let node = |name: &str| ClassNode { class: ClassInfo { name: name.into(), color: [1, 2, 3] }, parent: None };
    let tree = ClassTree::new(vec![node("x"), node("y")]).expect("the classes are right");
    let truth = (&*dir.join("truth"), TruthKind::Dots);
    let cases = FolderCases::new(&dir.join("images"), truth, (tree, 0.5), None).expect("there is an image");
    let Ok(cases) = cases.with_groups(&dir.join("groups.csv")) else { return };
    if let Ok(case) = cases.case(0) {
        let dots = case.sample.truth.dots.unwrap_or_default();
        assert!(dots.iter().all(|dot| dot.x.is_finite() && dot.y.is_finite() && dot.node < 2));
    }
}

pub fn evaluation_seeds() -> Vec<Vec<u8>> {
    let metrics: &[u8] = br#"{"model":"old","main":"pq","measures":[{"name":"pq","class":null,"organ":null,"value":0.5}],"images":[{"name":"a","pq":0.2}]}"#;
    vec![joined(&[metrics, b"image,organ,patient\na.png,liver,p1\n", b"1 2 1\n3.5 4 2\n"])]
}
