//! Resolution: ordered, recorded sources; never guessed, never binned to a magnification.
//!
//! Owns: [`check_mpp`], the user's CSV, what a TIFF resolution may mean. Must not know: readers.
//! Order: `slides.mpp` → CSV → vendor property → OME-XML → TIFF resolution.

use super::{MppSource, SlideEntry, SlideInfo};
use crate::{
    config::settings,
    error::{SlideError, StageName},
    units::{Mpp, MppXy},
};
use std::path::Path;

/// Finest resolution we believe: oil immersion at 100×, with room.
const FINEST_UM_PER_PX: f64 = 0.05;
/// Coarsest resolution we believe: 2×.
const COARSEST_UM_PER_PX: f64 = 5.0;
/// Most that x and y may differ by.
const MAX_ANISOTROPY: f64 = 1.10;
/// A TIFF resolution coarser than this (508 dpi) is meant for a printer or a screen: 72, 96, 300 dpi.
const COARSEST_SCAN_UM_PER_PX: f64 = 50.0;

const SET_MPP: &str = "state it with `slides.mpp`, or per slide in the CSV of `slides.mpp_csv`";

/// The slide's resolution, if it can be believed.
///
/// # Errors
/// None known, outside 0.05–5 µm/px, or x and y more than 10 % apart. What the user stated may differ between x
/// and y, and must still lie in 0.05–5 µm/px.
pub fn check_mpp(info: &SlideInfo) -> Result<MppXy, SlideError> {
    let fail = |message: String| SlideError::new(StageName::Slides, format!("{message}: {}", info.path.display()));
    let Some((mpp, source)) = info.mpp else {
        return Err(fail("mpp unknown: nothing in the file states it".into()).hint(SET_MPP));
    };
    let (x, y) = (mpp.x.um_per_px(), mpp.y.um_per_px());
    let stated = matches!(source, MppSource::User | MppSource::Csv);
    for mpp in [x, y] {
        if !(FINEST_UM_PER_PX..=COARSEST_UM_PER_PX).contains(&mpp) {
            let message = format!(
                "mpp out of range: found `{mpp}` µm/px (from {}), expected {FINEST_UM_PER_PX} to {COARSEST_UM_PER_PX}",
                source.name()
            );
            let hint = if stated { "is it in µm per px, and not a magnification or nm?" } else { SET_MPP };
            return Err(fail(message).hint(hint));
        }
    }
    if !stated && x.max(y) / x.min(y) > MAX_ANISOTROPY {
        let message = format!(
            "mpp differs between x and y: found `{x}` and `{y}` µm/px (from {}), expected at most 10 % apart",
            source.name()
        );
        return Err(fail(message).hint(format!("if it is so, {SET_MPP}")));
    }
    Ok(mpp)
}

/// What the user states of this slide: `slides.mpp`, else the CSV.
///
/// # Errors
/// A CSV that cannot be read, or whose line for this slide is not a resolution.
pub(super) fn stated(
    id: &str,
    path: &Path,
    settings: &settings::Slides,
) -> Result<Option<(MppXy, MppSource)>, SlideError> {
    if let Some(mpp) = settings.mpp {
        return Ok(Some((mpp, MppSource::User)));
    }
    let Some(csv) = &settings.mpp_csv else { return Ok(None) };
    let found = from_csv(id, path, csv).map_err(|message| {
        SlideError::new(StageName::Slides, format!("mpp CSV: {message}: {}", csv.display()))
            .hint("the first line is `slide,mpp_x,mpp_y` (or `slide,mpp_x`), values in µm per px")
    })?;
    Ok(found.map(|mpp| (mpp, MppSource::Csv)))
}

/// The resolution the user states of this slide, if any.
///
/// # Errors
/// A CSV that cannot be read, or whose line for this slide is not a resolution.
pub fn stated_mpp(entry: &SlideEntry, settings: &settings::Slides) -> Result<Option<MppXy>, SlideError> {
    Ok(stated(&entry.id, &entry.path, settings)?.map(|(mpp, _)| mpp))
}

fn from_csv(id: &str, path: &Path, csv: &Path) -> Result<Option<MppXy>, String> {
    let reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_path(csv);
    let mut reader = reader.map_err(|e| e.to_string())?;
    let headers = reader.headers().map_err(|e| e.to_string())?.clone();
    let column = |name: &str| headers.iter().position(|h| h.trim_start_matches('\u{feff}') == name);
    let slide = column("slide").ok_or("no column `slide`")?;
    let x = column("mpp_x").or_else(|| column("mpp")).ok_or("no column `mpp_x`")?;
    let y = column("mpp_y");
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|e| e.to_string())?;
        if !record.get(slide).is_some_and(|name| names(name, id, path)) {
            continue;
        }
        let mpp = |column: usize| {
            let text = record.get(column).unwrap_or("");
            let value = text.parse().ok().and_then(Mpp::new);
            value.ok_or_else(|| format!("line {}: found `{text}`, expected µm per px", i + 2))
        };
        let x = mpp(x)?;
        let y = y.filter(|&y| record.get(y).is_some_and(|v| !v.is_empty())).map(mpp).transpose()?;
        return Ok(Some(MppXy { x, y: y.unwrap_or(x) }));
    }
    Ok(None)
}

/// Whether a CSV cell names the slide: its id, file name, stem, or the end of its path.
fn names(cell: &str, id: &str, path: &Path) -> bool {
    if cell.is_empty() {
        return false;
    }
    let is = |part: Option<&std::ffi::OsStr>| part.is_some_and(|part| part == cell);
    cell == id || is(path.file_name()) || is(path.file_stem()) || path.ends_with(Path::new(cell))
}

/// A TIFF's resolution as µm per px: `unit` 2 is inch, 3 centimetre; `None` without unit or at printers' values.
pub(super) fn from_resolution(x_per_unit: Option<f64>, y_per_unit: Option<f64>, unit: u64) -> Option<MppXy> {
    let um = match unit {
        2 => 25_400.0,
        3 => 10_000.0,
        _ => return None,
    };
    let mpp = |per_unit: f64| Mpp::new(um / per_unit).filter(|mpp| mpp.um_per_px() <= COARSEST_SCAN_UM_PER_PX);
    Some(MppXy { x: mpp(x_per_unit?)?, y: mpp(y_per_unit?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(mpp: Option<(f64, f64, MppSource)>) -> SlideInfo {
        let mpp = mpp.map(|(x, y, s)| (MppXy { x: Mpp::new(x).unwrap(), y: Mpp::new(y).unwrap() }, s));
        SlideInfo {
            path: "s.svs".into(),
            reader: "tiff",
            vendor: "aperio".into(),
            levels: Vec::new(),
            mpp,
            objective_power: None,
            bounds: None,
            quickhash: None,
            properties: Default::default(),
        }
    }

    #[test]
    fn implausible_resolutions_fail_with_a_hint_unless_the_user_states_them() {
        assert!(check_mpp(&info(Some((0.25, 0.26, MppSource::Vendor)))).is_ok());
        for bad in [None, Some((28.9, 28.9, MppSource::Vendor)), Some((0.25, 0.3, MppSource::TiffResolution))] {
            let error = check_mpp(&info(bad)).unwrap_err();
            assert!(error.hint.unwrap().contains("slides.mpp"), "{}", error.message);
        }
        assert!(check_mpp(&info(Some((0.25, 0.5, MppSource::User)))).is_ok());
        assert!(check_mpp(&info(Some((0.25, 0.5, MppSource::Csv)))).is_ok());
        assert!(check_mpp(&info(Some((40.0, 40.0, MppSource::User)))).is_err());
    }

    #[test]
    fn resolutions_of_screens_and_printers_are_no_mpp() {
        for (per_unit, unit) in [(72.0, 2), (96.0, 2), (300.0, 2), (28.3465, 3), (40_000.0, 1), (0.0, 3), (10.0, 3)] {
            assert_eq!(from_resolution(Some(per_unit), Some(per_unit), unit), None, "{per_unit} per {unit}");
        }
        let mpp = from_resolution(Some(40_000.0), Some(20_000.0), 3).unwrap();
        assert_eq!((mpp.x.um_per_px(), mpp.y.um_per_px()), (0.25, 0.5));
        assert_eq!(from_resolution(Some(40_000.0), None, 3), None);
    }

    #[test]
    fn the_csv_finds_a_slide_by_name_stem_path_or_id() {
        let dir = tempfile::tempdir().unwrap();
        let csv = dir.path().join("mpp.csv");
        let text = "slide,mpp_x,mpp_y\nA.svs, 0.25,0.5\nb,0.4,\ncases/C.tif,0.3,0.3\nd__e,0.2,0.2\nbad,forty,1\n";
        std::fs::write(&csv, text).unwrap();
        let find = |id: &str, path: &str| from_csv(id, Path::new(path), &csv).map(|m| m.map(|m| m.x.um_per_px()));
        assert_eq!(find("A", "/x/A.svs"), Ok(Some(0.25)));
        assert_eq!(find("q", "/x/b.tif"), Ok(Some(0.4)));
        assert_eq!(find("C", "/y/cases/C.tif"), Ok(Some(0.3)));
        assert_eq!(find("C", "/y/other/C.tif"), Ok(None));
        assert_eq!(find("d__e", "/y/d/e.tif"), Ok(Some(0.2)));
        assert!(find("bad", "/bad.svs").unwrap_err().contains("line 6"));
        std::fs::write(&csv, "name,x\n").unwrap();
        assert!(find("A", "A.svs").unwrap_err().contains("`slide`"));
    }
}
