//! Files of dots: a line per nucleus.
//!
//! Owns: [`read`]. Must not know: layouts.
//!
//! Without a header: `row column class` (BRCA-M2C), separated by spaces, tabs or commas, px counted from 0. With one (CSV):
//! columns `x`, `y` and `class` in any order.

use super::labels::LabelMap;
use crate::train::{TrainError, class_tree::BACKGROUND, sample::Dot};
use std::{fs::File, io::Read, path::Path};

const MAX_BYTES: u64 = 64 << 20;

/// The dots of a picture of `[h, w]` px. A px `i` of a file is the place `i + 0.5`.
///
/// # Errors
/// A line that is no dot, lies outside the picture, or has a label that the set does not explain: file and line.
pub fn read(path: &Path, (w, h): (u32, u32), labels: &LabelMap) -> Result<Vec<Dot>, TrainError> {
    let name = path.display().to_string();
    let mut text = String::new();
    let file = File::open(path).and_then(|f| f.take(MAX_BYTES).read_to_string(&mut text));
    file.map_err(|e| TrainError::new(format!("dots cannot be read: {e}: {name}")))?;
    let mut columns = (1, 0, 2);
    let mut dots = vec![];
    for (line, row) in text.lines().enumerate() {
        let cells: Vec<&str> = row.split([' ', '\t', ',', ';']).map(str::trim).filter(|c| !c.is_empty()).collect();
        let fail = |what: &str| {
            TrainError::new(format!("line {} is no dot: found `{row:.60}`, expected {what}: {name}", line + 1)).hint(
                "a line is `row column class`; with a first line that names the columns `x`, `y`, `class`, in any order",
            )
        };
        if cells.is_empty() {
            continue;
        }
        if line == 0 && cells.iter().all(|c| c.parse::<f64>().is_err()) {
            let find = |n: &str| cells.iter().position(|c| c.trim_start_matches('\u{feff}').eq_ignore_ascii_case(n));
            columns = match (find("x"), find("y"), find("class")) {
                (Some(x), Some(y), Some(class)) => (x, y, class),
                _ => return Err(fail("columns `x`, `y`, `class`")),
            };
            continue;
        }
        let number = |at: usize| cells.get(at).and_then(|c| c.parse::<f64>().ok()).filter(|v| v.is_finite());
        let (Some(x), Some(y), Some(label)) = (number(columns.0), number(columns.1), cells.get(columns.2)) else {
            return Err(fail("two numbers and a class"));
        };
        // One px beyond the edge is rounding of whoever scaled them.
        if !(-1.0..=f64::from(w)).contains(&x) || !(-1.0..=f64::from(h)).contains(&y) {
            return Err(fail(&format!("a place within [{w}, {h}] px")));
        }
        let node = labels.node(label, &name)?;
        let inside = |v: f64, n: u32| (v + 0.5).clamp(0.0, f64::from(n) - 1e-3) as f32;
        match node {
            BACKGROUND => {}
            node => dots.push(Dot { x: inside(x, w), y: inside(y, h), node }),
        }
    }
    Ok(dots)
}
