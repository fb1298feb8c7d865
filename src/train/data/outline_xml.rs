//! Outlines in XML: ASAP's and Aperio ImageScope's.
//!
//! Owns: [`read`]. Must not know: which class a name is.
//! Source: ASAP (`ASAP_Annotations`: an annotation's group is its class, `PartOfGroup`), ImageScope (`Annotations`: regions
//! of a layer; the layer's name is the class; a region with `NegativeROA="1"` is a hole in the one that holds it), as in
//! CAMELYON, Kumar's set and MoNuSeg.

use super::outlines::{Outline, Shape};
use std::{fs::File, io::Read, path::Path};

const MAX_BYTES: u64 = 256 << 20;
/// Elements within each other; both programs write six. Each annotation within others would count all that is in it.
const MAX_DEPTH: usize = 16;

/// Everything drawn in a file.
///
/// # Errors
/// In words: not readable, not such XML, or too large.
pub fn read(path: &Path) -> Result<Vec<Outline>, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("more than {} MiB of text", MAX_BYTES >> 20));
    }
    let document = roxmltree::Document::parse(&text).map_err(|e| e.to_string())?;
    if document.descendants().any(|node| node.ancestors().nth(MAX_DEPTH).is_some()) {
        return Err(format!("elements nested deeper than {MAX_DEPTH}"));
    }
    match document.root_element().tag_name().name() {
        "ASAP_Annotations" => asap(&document),
        "Annotations" => image_scope(&document),
        other => Err(format!("<{other:.40}>, expected <ASAP_Annotations> or ImageScope's <Annotations>")),
    }
}

type Node<'a, 'b> = roxmltree::Node<'a, 'b>;

fn named<'a, 'b>(of: Node<'a, 'b>, name: &'static str) -> impl Iterator<Item = Node<'a, 'b>> {
    of.descendants().filter(move |n| n.has_tag_name(name))
}

fn corners(of: Node<'_, '_>, tag: &'static str) -> Result<Vec<[f64; 2]>, String> {
    named(of, tag)
        .map(|n| {
            let number =
                |name: &str| n.attribute(name).and_then(|v| v.trim().parse::<f64>().ok()).filter(|v| v.abs() < 1e8);
            match (number("X"), number("Y")) {
                (Some(x), Some(y)) => Ok([x, y]),
                _ => Err(format!("a <{tag}> without numbers `X` and `Y`")),
            }
        })
        .collect()
}

fn asap(document: &roxmltree::Document<'_>) -> Result<Vec<Outline>, String> {
    let mut outlines = vec![];
    for annotation in named(document.root_element(), "Annotation") {
        let places = corners(annotation, "Coordinate")?;
        let group = annotation.attribute("PartOfGroup").filter(|g| !g.is_empty() && *g != "None");
        let class = group.or_else(|| annotation.attribute("Name")).map(str::to_owned);
        match annotation.attribute("Type") {
            Some("Dot" | "PointSet") => {
                outlines.extend(places.into_iter().map(|p| Outline { class: class.clone(), shape: Shape::Point(p) }));
            }
            _ if places.len() >= 3 => outlines.push(Outline { class, shape: Shape::Polygon(vec![places]) }),
            _ => {}
        }
    }
    Ok(outlines)
}

fn image_scope(document: &roxmltree::Document<'_>) -> Result<Vec<Outline>, String> {
    let mut outlines: Vec<Outline> = vec![];
    for layer in named(document.root_element(), "Annotation") {
        let attribute = named(layer, "Attribute").find_map(|a| a.attribute("Name").filter(|n| !n.is_empty()));
        let class = layer.attribute("Name").filter(|n| !n.is_empty()).or(attribute).map(str::to_owned);
        let first = outlines.len();
        let mut holes = vec![];
        for region in named(layer, "Region") {
            let places = corners(region, "Vertex")?;
            if places.len() < 3 {
                continue;
            }
            if region.attribute("NegativeROA") == Some("1") {
                holes.push(places);
            } else {
                outlines.push(Outline { class: class.clone(), shape: Shape::Polygon(vec![places]) });
            }
        }
        for hole in holes {
            let holds = |o: &&mut Outline| matches!(&o.shape, Shape::Polygon(rings) if is_inside(hole[0], &rings[0]));
            if let Some(Outline { shape: Shape::Polygon(rings), .. }) = outlines[first..].iter_mut().find(holds) {
                rings.push(hole);
            }
        }
    }
    Ok(outlines)
}

fn is_inside([x, y]: [f64; 2], ring: &[[f64; 2]]) -> bool {
    let edges = ring.iter().zip(ring.iter().cycle().skip(1));
    edges.filter(|(a, b)| (a[1] > y) != (b[1] > y) && x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0]).count() % 2
        == 1
}
