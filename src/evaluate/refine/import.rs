//! Corrections as a data set, and the training that goes on with them.
//!
//! Owns: [`import`], [`Imported`]. Must not know: how a network learns.
//!
//! ```text
//! <dir>/
//!   [<organ>/]images/<name>.png
//!   [<organ>/]masks/<name>.png       class per px, 0 background (models of areas)
//!   [<organ>/]instances/<name>.png   number per nucleus (models of nuclei)
//!   [<organ>/]geojson/<name>.geojson the corrected outlines, with the nuclei's classes
//!   groups.csv                       image, organ, patient
//!   refine.yaml                      the training that goes on: decoder, heads and conditioning alone
//! ```
//! A data set is of one organ; where organs are known, each has a folder.

use super::{
    super::{EvaluateError, fill},
    export::cannot_make,
    learnable::learnable_prefixes,
    outlines::{Outline, read_outlines, write_outlines},
};
use crate::{
    model::{CLIN_SEG_NET_ORGANS, ClassInfo},
    output::{is_plain_name, write_atomically},
    pixels::stain::reference,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Numbers that 16 bits have beside that of the background.
const MAX_NUCLEI: usize = u16::MAX as usize;

/// What was imported.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// Images with outlines.
    pub images: usize,
    /// Outlines in them.
    pub outlines: usize,
    /// Images whose outlines are not those that were exported.
    pub changed: usize,
    /// Exported images that have no outlines any more.
    pub missing: Vec<String>,
    /// Whether the model is a network, for which `refine.yaml` was written.
    pub is_trainable: bool,
}

/// What `refine.json` says of an export.
struct About {
    model: String,
    network: String,
    classes: Vec<ClassInfo>,
    mpp: f64,
    is_nuclei: bool,
}

/// Takes the corrected outlines of an export (`corrected`, default its own `geojson`) and writes the data set `dir`.
///
/// # Errors
/// No export there; outlines that cannot be read, or of a class the model does not have; files that cannot be written.
pub fn import(exported: &Path, corrected: Option<&Path>, dir: &Path) -> Result<Imported, EvaluateError> {
    let about = read_about(&exported.join("refine.json"))?;
    let target = if about.is_nuclei { "instances" } else { "masks" };
    let mut organs: Vec<String> = Vec::new();
    let table = read(&exported.join("tiles.csv"))?;
    let (mut found, mut groups) = (Imported::default(), "image,organ,patient\n".to_owned());
    for row in String::from_utf8_lossy(&table).lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let [name, _, _, organ, patient, ..] = cells[..] else { continue };
        if !is_plain_name(name) {
            let message = format!("image `{name:.60}` is no plain file name: {}", exported.join("tiles.csv").display());
            return Err(EvaluateError::new(message).hint("name the directory that `wsi-run refine export` has written"));
        }
        let original = exported.join("geojson").join(format!("{name}.geojson"));
        let path = corrected.map_or_else(|| original.clone(), |dir| dir.join(format!("{name}.geojson")));
        if !path.is_file() {
            found.missing.push(name.to_owned());
            continue;
        }
        let outlines = read_corrected(&path, &about.classes)?;
        let folder = plain(organ);
        let set = dir.join(&folder);
        if !organs.contains(&folder) {
            for part in ["images", target, "geojson"] {
                let path = set.join(part);
                fs::create_dir_all(&path).map_err(|e| cannot_make(&path, &e))?;
            }
            organs.push(folder);
        }
        import_one(name, &outlines, &about, (exported, &set))?;
        groups += &format!("{name},{organ},{patient}\n");
        found.images += 1;
        found.outlines += outlines.len();
        if corrected.is_some() {
            let before = read(&original).ok().and_then(|text| read_outlines(&text).ok());
            found.changed += usize::from(before.as_deref() != Some(&outlines[..]));
        }
    }
    if found.images == 0 {
        return Err(EvaluateError::new(format!("no outlines of the exported images: {}", exported.display()))
            .hint("export them from QuPath as GeoJSON, under the names of the images"));
    }
    write_atomically(&dir.join("groups.csv"), groups.as_bytes())?;
    if let Some(text) = training(&about, &organs, dir) {
        found.is_trainable = true;
        write_atomically(&dir.join("refine.yaml"), text.as_bytes())?;
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, EvaluateError> {
    fs::read(path).map_err(|e| EvaluateError::new(format!("cannot read: {e}: {}", path.display())))
}

fn read_about(path: &Path) -> Result<About, EvaluateError> {
    let text = read(path).map_err(|e| e.hint("name the directory that `wsi-run refine export` has written"))?;
    let damaged = || EvaluateError::new(format!("it is no `refine.json` of an export: {}", path.display()));
    let value: Value = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let classes: Vec<ClassInfo> = serde_json::from_value(value["classes"].clone()).map_err(|_| damaged())?;
    // 0 is background and 255 not computed.
    if classes.len() > 254 {
        return Err(damaged());
    }
    let word = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(damaged);
    Ok(About {
        model: word("model")?,
        network: word("network")?,
        classes,
        mpp: value["mpp"].as_f64().ok_or_else(damaged)?,
        is_nuclei: value["nuclei"].as_bool().ok_or_else(damaged)?,
    })
}

/// Outlines of known classes; where there is one class, what has none is of it.
fn read_corrected(path: &Path, classes: &[ClassInfo]) -> Result<Vec<Outline>, EvaluateError> {
    let damaged = |reason: String| EvaluateError::new(format!("cannot read GeoJSON: {reason}: {}", path.display()));
    let mut outlines = read_outlines(&read(path)?).map_err(damaged)?;
    let names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
    for outline in &mut outlines {
        match (&outline.class, &names[..]) {
            (None, [only]) => outline.class = Some((*only).to_owned()),
            (Some(name), _) if names.contains(&name.as_str()) => {}
            (found, _) => {
                let found = found.as_deref().unwrap_or("none");
                return Err(damaged(format!("an outline has the class `{found}`"))
                    .hint(format!("the classes are {}", names.join(", "))));
            }
        }
    }
    Ok(outlines)
}

fn import_one(
    name: &str,
    outlines: &[Outline],
    about: &About,
    (exported, dir): (&Path, &Path),
) -> Result<(), EvaluateError> {
    let file = format!("{name}.png");
    let picture = exported.join("images").join(&file);
    write_atomically(&dir.join("images").join(&file), &read(&picture)?)?;
    let geojson = dir.join("geojson").join(format!("{name}.geojson"));
    write_atomically(&geojson, write_outlines(outlines, &about.classes).as_bytes())?;
    let image = reference::read(&picture).map_err(|e| EvaluateError::new(e.to_string()))?;
    let mut map = vec![0_u16; image.w as usize * image.h as usize];
    // Large areas first, so that a small one within a large one stays.
    let mut order: Vec<usize> = (0..outlines.len()).collect();
    order.sort_by(|&a, &b| area(&outlines[b]).total_cmp(&area(&outlines[a])).then(a.cmp(&b)));
    if about.is_nuclei && order.len() > MAX_NUCLEI {
        let message = format!("found `{}` nuclei, expected at most `{MAX_NUCLEI}`: {}", order.len(), geojson.display());
        return Err(EvaluateError::new(message).hint("the image is too large to be corrected: export smaller squares"));
    }
    for (number, &i) in order.iter().enumerate() {
        let class = about.classes.iter().position(|c| Some(&c.name) == outlines[i].class.as_ref());
        let value = if about.is_nuclei { number as u16 + 1 } else { class.map_or(0, |c| c as u16 + 1) };
        fill(&outlines[i].rings, image.w, image.h, |at| map[at] = value);
    }
    let (folder, bytes) = if about.is_nuclei {
        ("instances", grey_png(&map, (image.w, image.h), png::BitDepth::Sixteen))
    } else {
        ("masks", grey_png(&map, (image.w, image.h), png::BitDepth::Eight))
    };
    write_atomically(&dir.join(folder).join(&file), &bytes.map_err(EvaluateError::new)?)?;
    Ok(())
}

/// Area of the exterior.
fn area(outline: &Outline) -> f64 {
    let ring = outline.rings.first().map_or(&[][..], Vec::as_slice);
    ring.windows(2).map(|p| p[0][0] * p[1][1] - p[1][0] * p[0][1]).sum::<f64>().abs() / 2.0
}

fn grey_png(map: &[u16], (w, h): (u32, u32), depth: png::BitDepth) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, w, h);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(depth);
    let px: Vec<u8> = match depth {
        png::BitDepth::Sixteen => map.iter().flat_map(|v| v.to_be_bytes()).collect(),
        _ => map.iter().map(|&v| v as u8).collect(),
    };
    let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
    writer.write_image_data(&px).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// A safe name of a folder.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// The training that goes on with the corrections; `None` for a model that is no network.
fn training(about: &About, organs: &[String], dir: &Path) -> Option<String> {
    let quoted = |text: &str| Value::from(text).to_string();
    let path = |p: PathBuf| quoted(&p.display().to_string());
    let prefixes: Vec<String> = learnable_prefixes(&about.network)?.iter().map(|p| quoted(p)).collect();
    let color = |[r, g, b]: [u8; 3]| format!("\"#{r:02x}{g:02x}{b:02x}\"");
    let class = |c: &ClassInfo| format!("    {}: {{ color: {} }}\n", quoted(&c.name), color(c.color));
    let classes: String = about.classes.iter().map(class).collect();
    let (layout, files) =
        if about.is_nuclei { ("instances", "geojson/{stem}.geojson") } else { ("masks", "masks/{stem}.png") };
    // Outlines name their class; a mask has numbers.
    let label = |(i, c): (usize, &ClassInfo)| {
        let label = if about.is_nuclei { quoted(&c.name) } else { format!("\"{i}\"") };
        format!("        {label}: {}\n", quoted(&c.name))
    };
    let labels: String = (1..).zip(&about.classes).map(label).collect();
    let is_told = about.network == "clin_seg_net";
    let set = |organ: &String| {
        let name = if organ.is_empty() { "corrected" } else { organ };
        let told = CLIN_SEG_NET_ORGANS.contains(&organ.as_str()) && is_told;
        let organ_line = if told { format!("      organ: {}\n", quoted(organ)) } else { String::new() };
        format!(
            "    {}:\n      path: {}\n      layout: {layout}\n      annotations: {}\n      mpp: {}\n\
             \x20     patient_csv: {{ path: {}, name: image, patient: patient }}\n{organ_line}      labels:\n{labels}",
            quoted(name),
            path(dir.join(organ)),
            quoted(files),
            about.mpp,
            path(dir.join("groups.csv")),
        )
    };
    let sets: String = organs.iter().map(set).collect();
    Some(format!(
        "# Goes on with corrected images: decoder, heads and conditioning learn, the encoder stays as it is.\n\
         data:\n  classes:\n{classes}  sets:\n{sets}\
         model:\n  name: {}\n  start: {}\n\
         train:\n  epochs: 20\n  learning_rate: 0.0001\n  only_prefixes: [{}]\n\
         output:\n  dir: {}\n",
        quoted(&about.network),
        quoted(&about.model),
        prefixes.join(", "),
        path(dir.join("training")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{environment::Environment, resolve::load_training_text};

    #[test]
    fn the_training_it_writes_is_one_and_keeps_the_encoder() {
        let class = |name: &str| ClassInfo { name: name.into(), color: [200, 10, 10] };
        for (network, is_nuclei, organs) in [
            ("clin_seg_net", false, vec!["liver".to_owned(), "lung".to_owned()]),
            ("stardist_unet", true, vec![String::new()]),
        ] {
            let about = About {
                model: "net: \"a\".safetensors".to_owned(),
                network: network.to_owned(),
                classes: vec![class("tumour")],
                mpp: 0.5,
                is_nuclei,
            };
            let text = training(&about, &organs, Path::new("out")).unwrap();
            let environment = Environment::read();
            let loaded = load_training_text("refine.yaml", &text, &[], &environment);
            let loaded = loaded.unwrap_or_else(|e| panic!("{}\n{text}", crate::config::render(&e)));
            let prefixes = loaded.settings.train.only_prefixes.unwrap();
            assert_eq!(prefixes, learnable_prefixes(network).unwrap());
            assert_eq!(loaded.settings.data.sets.len(), organs.len());
            assert_eq!(loaded.settings.data.sets[0].organ.as_deref(), (!is_nuclei).then_some("liver"));
        }
    }

    #[test]
    fn a_model_that_is_no_network_has_no_training() {
        let (model, network) = ("hematoxylin".to_owned(), "hematoxylin".to_owned());
        let about = About { model, network, classes: vec![], mpp: 0.5, is_nuclei: true };
        assert_eq!(training(&about, &[String::new()], Path::new("out")), None);
    }

    #[test]
    fn names_of_organs_are_safe_as_folders() {
        assert_eq!(plain("../lymph node"), "___lymph_node");
    }
}
