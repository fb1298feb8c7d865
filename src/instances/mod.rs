//! What is an object? From stitched maps to instances, and what is measured of each.

mod instance; // What is known of one?
mod semantic; // Classes of pixels.
mod foreground; // Which pixels may be nuclei?
mod distance; // How deep inside?
mod watershed; // Which nucleus does a pixel belong to?
mod own; // Which region does a nucleus belong to?
mod pieces; // The largest piece of a nucleus.
mod grouped_runs; // Runs of many nuclei.
mod finish; // From pixels to an instance.
mod extract; // Nuclei of a region.
mod joined_runs; // Connected areas of a mask.
mod slopes; // How fast distances rise.
mod energy; // Where nuclei touch.
mod markers; // Middles of nuclei.
mod marked_watershed; // Which marker does a pixel belong to?
mod np_hv; // Nuclei of a region, as HoVer-Net finds them.
mod star_polygon; // Star-convex polygons.
mod star_overlap; // How much do two share?
mod suppress; // Which of many stay?
mod star; // Nuclei of a region from star-convex predictions.
mod extractor; // Which way fits a model?
mod stretches; // Pieces of a row of one class.
mod run_lists; // Runs of many components.
mod components; // Connected areas, row by row.
mod lesions; // Lesions of a slide.
mod tiles; // Tiles classified as a whole.
mod moments; // Area, centroid, axes.
mod perimeter; // Length of the edge.
mod hull; // Convex hull.
mod colour; // Stain and colour.
mod contour; // Outlines.
mod mask_grid;
mod measure; // All of them.

pub use contour::rings;
pub use extract::{extract_nuclei, halo_px, scratch_bytes};
pub use extractor::Extractor;
pub use instance::{Features, Instance, Run};
pub use lesions::{Lesion, LesionFinder};
pub use mask_grid::MaskGrid;
pub use measure::{RgbWindow, centroid, measure};
pub use np_hv::{NP_HV_DEFAULTS, extract_np_hv, np_hv_halo_px, np_hv_scratch_bytes};
pub use semantic::{prob_u8, semantic_classes};
pub use star::{PX_PER_STAR, STAR_DEFAULTS, extract_stars, star_halo_px, star_scratch_bytes};
pub use tiles::{TileMaps, tile_maps};
pub use watershed::WATERSHED_DEFAULTS;
