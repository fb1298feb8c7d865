//! Classes of published weights, and classes as a user writes them.
//!
//! Owns: [`class_set`], [`parse_classes`], [`parse_type_info`]. Must not know: networks, files.
//!
//! Source: `vqdang/hover_net`: `type_info.json` (PanNuke, names and colours as there), `README.md` (colours of CoNSeP) and
//! `dataset.py` (order of CoNSeP: its types 3 and 4 become 3, its types 5 to 7 become 4; TIAToolbox's table names the same
//! outputs in another order). MoNuSAC: Verma 2021, figure 1 for colours, TIAToolbox for the order.

use crate::model::spec::ClassInfo;

/// Names of the built-in sets.
pub const CLASS_SETS: [&str; 4] = ["pannuke", "consep", "monusac", "kumar"];

type Named = (&'static str, [u8; 3]);

const PANNUKE: &[Named] = &[
    ("neopla", [255, 0, 0]),
    ("inflam", [0, 255, 0]),
    ("connec", [0, 0, 255]),
    ("necros", [255, 255, 0]),
    ("no-neo", [255, 165, 0]),
];
const CONSEP: &[Named] = &[
    ("miscellaneous", [0, 255, 255]),
    ("inflammatory", [255, 0, 0]),
    ("epithelial", [0, 0, 255]),
    ("spindle-shaped", [0, 255, 0]),
];
const MONUSAC: &[Named] = &[
    ("epithelial", [255, 0, 0]),
    ("lymphocyte", [255, 255, 0]),
    ("macrophage", [0, 255, 0]),
    ("neutrophil", [0, 0, 255]),
];
/// Nuclei without types.
const KUMAR: &[Named] = &[("nucleus", [0, 255, 0])];

/// The classes of published weights, background left out.
pub fn class_set(name: &str) -> Option<Vec<ClassInfo>> {
    let set = match name {
        "pannuke" => PANNUKE,
        "consep" => CONSEP,
        "monusac" => MONUSAC,
        "kumar" => KUMAR,
        _ => return None,
    };
    Some(set.iter().map(|&(name, color)| ClassInfo { name: name.to_owned(), color }).collect())
}

/// Classes as in `tumour=#c02020,stroma=#20c020`, or the name of a built-in set.
///
/// # Errors
/// What cannot be read, and what was expected.
pub fn parse_classes(text: &str) -> Result<Vec<ClassInfo>, String> {
    if let Some(set) = class_set(text.trim()) {
        return Ok(set);
    }
    let class = |part: &str| {
        let expected = || {
            format!(
                "class `{part}` cannot be read: expected `name=#rrggbb`, or one of the sets {}",
                CLASS_SETS.join(", ")
            )
        };
        let (name, color) = part.split_once('=').ok_or_else(expected)?;
        let color = parse_color(color.trim()).ok_or_else(expected)?;
        Ok(ClassInfo { name: name.trim().to_owned(), color })
    };
    checked(text.split(',').map(class).collect::<Result<_, String>>()?)
}

/// Classes from HoVer-Net's `type_info.json`: `{"0": ["nolabe", [0, 0, 0]], "1": ["neopla", [255, 0, 0]], …}`; type 0 is
/// the background.
///
/// # Errors
/// What cannot be read, and what was expected.
pub fn parse_type_info(text: &str) -> Result<Vec<ClassInfo>, String> {
    let types: std::collections::BTreeMap<u32, (String, [u8; 3])> = serde_json::from_str(text)
        .map_err(|e| format!("type info cannot be read: {e}, expected `{{\"1\": [\"name\", [r, g, b]], …}}`"))?;
    let types: Vec<_> = types.into_iter().filter(|(number, _)| *number != 0).collect();
    if let Some((number, _)) = types.iter().zip(1..).find_map(|((n, t), i)| (*n != i).then_some((n, t))) {
        return Err(format!("type info has a type `{number}` after a gap: expected numbers from 1 without one"));
    }
    checked(types.into_iter().map(|(_, (name, color))| ClassInfo { name, color }).collect())
}

fn checked(classes: Vec<ClassInfo>) -> Result<Vec<ClassInfo>, String> {
    for (i, class) in classes.iter().enumerate() {
        if class.name.is_empty() {
            return Err(format!("class {} has no name", i + 1));
        }
        if classes[..i].iter().any(|c| c.name == class.name) {
            return Err(format!("class `{}` is named twice", class.name));
        }
    }
    // 0 is background and 255 not computed.
    match classes.len() {
        0 => Err("no class is named".to_owned()),
        1..=254 => Ok(classes),
        many => Err(format!("`{many}` classes are named, expected at most 254")),
    }
}

fn parse_color(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let [_, r, g, b] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some([r, g, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read_as_they_are_written() {
        let classes = parse_classes("tumour=#c02020, stroma = #20C020").unwrap();
        assert_eq!(classes[0], ClassInfo { name: "tumour".to_owned(), color: [0xc0, 0x20, 0x20] });
        assert_eq!(classes[1], ClassInfo { name: "stroma".to_owned(), color: [0x20, 0xc0, 0x20] });
        assert_eq!(classes.len(), 2);
    }

    #[test]
    fn every_set_has_its_classes_without_the_background() {
        let counts: Vec<usize> = CLASS_SETS.iter().map(|s| parse_classes(s).unwrap().len()).collect();
        assert_eq!(counts, [5, 4, 4, 1]);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (text, expected) in [
            ("tumour", "`name=#rrggbb`"),
            ("tumour=red", "`tumour=red`"),
            ("tumour=#+12345", "`tumour=#+12345`"),
            ("=#000000", "class 1 has no name"),
            ("a=#000000,a=#000001", "`a` is named twice"),
            ("", "class ``"),
        ] {
            let error = parse_classes(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn type_info_is_that_of_hover_net() {
        let text = r#"{"0": ["nolabe", [0, 0, 0]], "10": ["k", [1, 1, 1]], "1": ["neopla", [255, 0, 0]]}"#;
        assert!(parse_type_info(text).unwrap_err().contains("`10` after a gap"));
        let classes =
            parse_type_info(r#"{"1": ["neopla", [255, 0, 0]], "0": ["nolabe", [0, 0, 0]], "2": ["b", [0, 9, 0]]}"#);
        assert_eq!(classes.unwrap()[1], ClassInfo { name: "b".to_owned(), color: [0, 9, 0] });
        assert!(parse_type_info("[1]").unwrap_err().contains("type info"));
        assert!(parse_type_info(r#"{"0": ["nolabe", [0, 0, 0]]}"#).unwrap_err().contains("no class"));
    }
}
