//! `report.html`: the batch at a glance, one file that needs nothing else.
//!
//! Owns: [`write_report`], [`ReportRun`], [`ReportSlide`], the page. Must not know: how slides were run.
//!
//! What is said of slides is JSON inside the page, `<` written as `\u003c`, and gets onto it as text only, by the page's
//! own script: names of slides are not trusted. The page forbids itself the network. All but the times and seconds in it
//! depends on the results alone.

mod thumbnail;

use super::{Artifact, OutputError, SlideRecord, SlideStatus, commit::write_whole};
use crate::model::ClassInfo;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::{fs, path::Path};
use thumbnail::{Size, thumbnail};

const PAGE: &str = include_str!("report/page.html");
const STYLE: &str = include_str!("report/page.css");
const SCRIPT: &str = include_str!("report/page.js");

/// All pictures of a page together, bytes of base64. Browsers take this in a fraction of a second.
const MAX_PICTURE_BYTES: usize = 24 << 20;

/// What the page says of the run.
#[derive(Debug, Clone, Default)]
pub struct ReportRun {
    /// Name of the model.
    pub model: String,
    /// Its classes.
    pub classes: Vec<ClassInfo>,
    /// What instances are called: `nuclei`, `lesions`, `tiles`.
    pub noun: String,
    /// RFC 3339, UTC.
    pub started_at: Option<String>,
    /// RFC 3339, UTC.
    pub finished_at: Option<String>,
    /// `complete`, `slides_failed`, …
    pub status: String,
    /// Where it ran.
    pub hosts: Vec<String>,
    /// Wall-clock seconds of the last run, and the slides it worked on; none of a batch of many tasks.
    pub pace: Option<(f64, usize)>,
    /// Slides nobody has finished, beside those with a row.
    pub not_done: Vec<String>,
    /// What is wrong with the batch as a whole, in words.
    pub faults: Vec<String>,
}

/// What the page says of a slide.
#[derive(Debug, Clone, Copy)]
pub struct ReportSlide<'a> {
    /// Its row of `slides.parquet`.
    pub record: &'a SlideRecord,
    /// Its files, of which the overview is shown.
    pub artifacts: &'a [Artifact],
}

/// Writes `report.html` into `out_dir`. `cache` keeps small pictures from one time to the next.
///
/// # Errors
/// [`OutputError`] when the disk says no; an older page then still stands. An overview that cannot be read is left out.
pub fn write_report(
    out_dir: &Path,
    cache: &Path,
    run: &ReportRun,
    slides: &[ReportSlide<'_>],
) -> Result<Artifact, OutputError> {
    let page = page(run, slides, &pictures(out_dir, cache, slides));
    write_whole(out_dir, Path::new("report.html"), &mut |path| fs::write(path, &page).map_err(OutputError::io(path)))
}

/// The picture of each slide as base64, as far as there is one and room for it.
fn pictures(out_dir: &Path, cache: &Path, slides: &[ReportSlide<'_>]) -> Vec<Option<String>> {
    let size = Size::for_slides(slides.len());
    let one = |slide: &ReportSlide<'_>| {
        let overview = slide.artifacts.iter().find(|a| a.path.starts_with("overviews"))?;
        let file = cache.join(format!("{}.jpg", slide.record.id));
        Some(base64(&thumbnail(&out_dir.join(&overview.path), &file, &overview.sha256, size)?))
    };
    let mut all: Vec<Option<String>> = slides.par_iter().map(one).collect();
    let mut used = 0;
    for picture in &mut all {
        used += picture.as_ref().map_or(0, String::len);
        if used > MAX_PICTURE_BYTES {
            *picture = None;
        }
    }
    all
}

fn page(run: &ReportRun, slides: &[ReportSlide<'_>], pictures: &[Option<String>]) -> String {
    let mut rows: Vec<(&str, Value)> = slides
        .iter()
        .zip(pictures)
        .map(|(slide, picture)| (slide.record.id.as_str(), slide_json(slide.record, picture.as_deref())))
        .collect();
    for id in &run.not_done {
        let mut row = slide_json(&SlideRecord { id: id.clone(), ..SlideRecord::default() }, None);
        row["status"] = json!("not_done");
        rows.push((id, row));
    }
    rows.sort_by(|a, b| a.0.cmp(b.0));
    let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
    let data = json!({
        "run": {
            "version": env!("CARGO_PKG_VERSION"),
            "model": run.model,
            "hosts": run.hosts,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "status": run.status,
            "run_secs": run.pace.map(|pace| pace.0),
            "slides_run": run.pace.map(|pace| pace.1),
            "faults": run.faults,
        },
        "noun": if run.noun.is_empty() { "objects" } else { &run.noun },
        "classes": classes(run, slides),
        "slides": rows,
    });
    // Inside a script element only `<` could end it; no other character has a meaning there.
    let data = data.to_string().replace('<', "\\u003c");
    // The script first: what is put in last is searched no more.
    PAGE.replace("@@STYLE@@", STYLE.trim_end()).replace("@@SCRIPT@@", SCRIPT.trim_end()).replace("@@DATA@@", &data)
}

/// Classes with their colours: the model's, and any other that a slide has.
fn classes(run: &ReportRun, slides: &[ReportSlide<'_>]) -> Vec<Value> {
    let color = |[r, g, b]: [u8; 3]| format!("#{r:02x}{g:02x}{b:02x}");
    let mut names: Vec<&str> = run.classes.iter().map(|class| class.name.as_str()).collect();
    let mut all: Vec<Value> =
        run.classes.iter().map(|class| json!({"name": class.name, "color": color(class.color)})).collect();
    for (name, ..) in slides.iter().flat_map(|slide| &slide.record.classes) {
        if !names.contains(&name.as_str()) {
            names.push(name);
            all.push(json!({"name": name, "color": null}));
        }
    }
    all
}

fn mm2(um2: Option<f64>) -> Option<f64> {
    um2.map(|um2| um2 * 1e-6)
}

fn slide_json(record: &SlideRecord, picture: Option<&str>) -> Value {
    let r = record;
    json!({
        "id": r.id,
        "path": r.path,
        "status": r.status.map_or("failed", SlideStatus::name),
        "error": r.error,
        "hint": r.hint,
        "notes": r.notes,
        "stain": r.stain,
        "color_kind": r.color_kind,
        "vendor": r.vendor,
        "width_px": r.width_px,
        "height_px": r.height_px,
        "mpp": r.mpp_x,
        "mpp_source": r.mpp_source,
        "tissue_mm2": mm2(r.tissue_area_um2),
        "computed_mm2": mm2(r.computed_area_um2),
        "tiles_planned": r.tiles_planned,
        "tiles_done": r.tiles_done,
        "tiles_failed": r.tiles_failed,
        "instances": r.instances,
        "classes": r.classes.iter().map(|(name, n, um2)| json!([name, n, um2 * 1e-6])).collect::<Vec<_>>(),
        "flags": flags(r),
        "wall_secs": r.wall_secs,
        "stage_secs": r.seconds,
        "thumb": picture,
    })
}

/// What a reader should look at before trusting a slide's numbers.
fn flags(record: &SlideRecord) -> Vec<&'static str> {
    let stain = record.stain.as_deref().unwrap_or_default();
    let color = record.color_kind.as_deref().unwrap_or("h_and_e");
    [
        (record.tiles_failed > 0, "lost tiles"),
        (record.status == Some(SlideStatus::NoTissue), "no tissue"),
        (stain.starts_with("identity"), "stain not normalised"),
        (color != "h_and_e", "not H&E"),
        (record.notes.is_some(), "note"),
    ]
    .into_iter()
    .filter_map(|(is, flag)| is.then_some(flag))
    .collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= three.len() { digit.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in pairs {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_name_cannot_leave_the_data_of_the_page() {
        let id = "</script><script>alert(1)</script>@@SCRIPT@@";
        let record = SlideRecord { id: id.to_owned(), error: Some("<!--".to_owned()), ..SlideRecord::default() };
        let page = page(&ReportRun::default(), &[ReportSlide { record: &record, artifacts: &[] }], &[None]);
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(page.matches("</script").count(), 2);
        assert!(!page.contains("<!--"));
        let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["slides"][0]["id"], id);
    }
}
