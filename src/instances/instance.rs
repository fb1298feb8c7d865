//! One nucleus, one lesion: the row every table and export is made from.
//!
//! Owns: [`Instance`], [`Run`], [`Features`]. Must not know: how it was found, files.

/// Pixels `[x0, x1)` of row `y`, in target px of the whole slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Row.
    pub y: u32,
    /// First column.
    pub x0: u32,
    /// First column after the run.
    pub x1: u32,
}

/// Shape and colour of an instance. Names and values follow scikit-image's `regionprops`, in the unit of the name;
/// lengths and areas are measured on the target grid (square pixels of `input_mpp`).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Features {
    /// Pixels × area of a pixel, µm².
    pub area_um2: f64,
    /// `perimeter` (4-neighbourhood estimator of regionprops), µm.
    pub perimeter_um: f64,
    /// `axis_major_length`, µm.
    pub axis_major_length_um: f64,
    /// `axis_minor_length`, µm.
    pub axis_minor_length_um: f64,
    /// `eccentricity`, 0–1.
    pub eccentricity: f64,
    /// `solidity`: area / `area_convex`, 0–1.
    pub solidity: f64,
    /// `extent`: area / area of the bounding box, 0–1.
    pub extent: f64,
    /// 4π·area / perimeter², not clipped; 0 where the perimeter is 0.
    pub circularity: f64,
    /// `orientation`, radians from the row axis, (-π/2, π/2].
    pub orientation: f64,
    /// `equivalent_diameter_area`, µm.
    pub equivalent_diameter_um: f64,
    /// `feret_diameter_max`, µm.
    pub feret_diameter_max_um: f64,
    /// Mean optical density of hematoxylin.
    pub hematoxylin_od_mean: f64,
    /// Standard deviation (population) of the optical density of hematoxylin.
    pub hematoxylin_od_std: f64,
    /// Mean optical density of eosin.
    pub eosin_od_mean: f64,
    /// Standard deviation (population) of the optical density of eosin.
    pub eosin_od_std: f64,
    /// Mean red, 0–255.
    pub red_mean: f64,
    /// Mean green, 0–255.
    pub green_mean: f64,
    /// Mean blue, 0–255.
    pub blue_mean: f64,
}

/// One nucleus or lesion.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Label value of its class in the semantic map: 1 for the first class.
    pub class: u8,
    /// Probability of each class (background left out), in the model's order.
    pub class_probs: Vec<f32>,
    /// Its pixels, by row and then column; never overlapping another instance's; empty only for a lesion that was
    /// simplified.
    pub runs: Vec<Run>,
    /// Mean of its pixel centres, in target px counted at pixel edges (the centre of pixel 0 is 0.5).
    pub centroid: (f64, f64),
    /// Rings in target px (pixel edges): the exterior first, counter-clockwise by its coordinates as GeoJSON and
    /// GeoParquet have it (positive shoelace area; clockwise on a screen with y down); then holes, the other way
    /// round. Each ring is closed (first point repeated).
    pub rings: Vec<Vec<[f64; 2]>>,
    /// Cut by the slide's edge or by pixels that were not computed.
    pub truncated: bool,
    /// Shape and colour.
    pub features: Features,
}
