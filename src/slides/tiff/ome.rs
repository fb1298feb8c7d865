//! OME-XML: what an OME-TIFF says of its first image.
//!
//! Owns: [`OmeImage`]. Must not know: TIFF. Source: OME data model 2016-06, `Pixels`, `Channel`, `Objective`.

use crate::units::{Mpp, MppXy};
use roxmltree::{Document, Node};

/// The first image of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct OmeImage {
    /// `PhysicalSizeX`, `PhysicalSizeY` in µm per px; `None` unless both are there.
    pub(super) mpp: Option<MppXy>,
    /// `NominalMagnification` of the objective.
    pub(super) objective_power: Option<f64>,
    /// Why the image is not an 8-bit RGB picture, if it is not.
    pub(super) not_rgb: Option<String>,
}

/// Whether a description is OME-XML.
pub(super) fn is_ome(description: &str) -> bool {
    let head = description.trim_start();
    head.starts_with('<') && description.contains("<OME") && description.contains("openmicroscopy.org")
}

impl OmeImage {
    /// Reads the XML.
    ///
    /// # Errors
    /// When it is not XML or has no image.
    pub(super) fn parse(xml: &str) -> Result<Self, String> {
        let document = Document::parse(xml).map_err(|e| format!("OME-XML: {e}"))?;
        let child = |node: Node<'_, '_>, name: &str| {
            node.children().find(|n| n.has_tag_name(name) || n.tag_name().name() == name).map(|n| n.id())
        };
        let root = document.root_element();
        let found = child(root, "Image").and_then(|id| document.get_node(id));
        let image = found.ok_or_else(|| "OME-XML: no Image".to_owned())?;
        let found = child(image, "Pixels").and_then(|id| document.get_node(id));
        let pixels = found.ok_or_else(|| "OME-XML: its first Image has no Pixels".to_owned())?;
        let mpp = (physical_size(pixels, "X"), physical_size(pixels, "Y"));
        let mpp = if let (Some(x), Some(y)) = mpp { Some(MppXy { x, y }) } else { None };
        let objective = document.descendants().find(|n| n.tag_name().name() == "Objective");
        let power = objective.and_then(|n| n.attribute("NominalMagnification")?.parse().ok());
        Ok(Self { mpp, objective_power: power, not_rgb: not_rgb(pixels) })
    }
}

fn physical_size(pixels: Node<'_, '_>, axis: &str) -> Option<Mpp> {
    let value: f64 = pixels.attribute(format!("PhysicalSize{axis}").as_str())?.trim().parse().ok()?;
    let um = match pixels.attribute(format!("PhysicalSize{axis}Unit").as_str()).unwrap_or("µm") {
        // Micro sign and Greek mu look the same.
        "µm" | "\u{3bc}m" | "um" => 1.0,
        "nm" => 1e-3,
        "pm" => 1e-6,
        "Å" => 1e-4,
        "mm" => 1e3,
        "cm" => 1e4,
        "m" => 1e6,
        "in" => 25_400.0,
        _ => return None,
    };
    Mpp::new(value * um)
}

fn not_rgb(pixels: Node<'_, '_>) -> Option<String> {
    let number = |name: &str| pixels.attribute(name).and_then(|v| v.parse::<u64>().ok()).unwrap_or(1);
    let kind = pixels.attribute("Type").unwrap_or("");
    if kind != "uint8" {
        return Some(format!("its pixels are `{kind}`, expected `uint8`"));
    }
    for (axis, name) in [("SizeZ", "focal planes"), ("SizeT", "points in time")] {
        if number(axis) != 1 {
            return Some(format!("it has {} {name}, expected 1", number(axis)));
        }
    }
    let channels: Vec<_> = pixels.children().filter(|n| n.tag_name().name() == "Channel").collect();
    let samples = |n: &Node<'_, '_>| n.attribute("SamplesPerPixel").and_then(|v| v.parse::<u64>().ok()).unwrap_or(1);
    match channels.as_slice() {
        [one] if matches!(samples(one), 3 | 4) => None,
        [] if number("SizeC") == 3 => None,
        [one] => Some(format!("its one channel has {} sample per px, expected 3 (RGB)", samples(one))),
        many => Some(format!(
            "it has {} channels, as fluorescence has; expected one of 3 samples (RGB brightfield)",
            many.len().max(number("SizeC") as usize)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ome(pixels: &str) -> Result<OmeImage, String> {
        OmeImage::parse(&format!(
            r#"<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
            <Instrument ID="I"><Objective ID="O" NominalMagnification="40"/></Instrument>
            <Image ID="Image:0">{pixels}</Image></OME>"#
        ))
    }

    #[test]
    fn physical_sizes_are_read_in_their_unit() {
        let image =
            ome(r#"<Pixels Type="uint8" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="250" PhysicalSizeXUnit="nm"
            PhysicalSizeY="0.25"><Channel SamplesPerPixel="3"/></Pixels>"#)
            .unwrap();
        let mpp = image.mpp.unwrap();
        assert!((mpp.x.um_per_px() - 0.25).abs() < 1e-12 && mpp.y.um_per_px() == 0.25);
        assert_eq!((image.objective_power, image.not_rgb), (Some(40.0), None));
    }

    #[test]
    fn a_size_without_a_length_unit_is_no_resolution() {
        let image = ome(r#"<Pixels Type="uint8" SizeC="3" PhysicalSizeX="1" PhysicalSizeXUnit="pixel"
            PhysicalSizeY="1" PhysicalSizeYUnit="pixel"><Channel SamplesPerPixel="3"/></Pixels>"#)
        .unwrap();
        assert_eq!(image.mpp, None);
    }

    #[test]
    fn fluorescence_and_deep_samples_are_named() {
        let two =
            r#"<Pixels Type="uint8" SizeC="2"><Channel SamplesPerPixel="1"/><Channel SamplesPerPixel="1"/></Pixels>"#;
        assert!(ome(two).unwrap().not_rgb.unwrap().contains("2 channels"));
        let deep = r#"<Pixels Type="uint16" SizeC="3"><Channel SamplesPerPixel="3"/></Pixels>"#;
        assert!(ome(deep).unwrap().not_rgb.unwrap().contains("uint16"));
        let stack = r#"<Pixels Type="uint8" SizeC="3" SizeZ="5"><Channel SamplesPerPixel="3"/></Pixels>"#;
        assert!(ome(stack).unwrap().not_rgb.unwrap().contains("5 focal planes"));
        assert!(ome("").is_err());
        assert!(OmeImage::parse("<OME").is_err());
    }
}
