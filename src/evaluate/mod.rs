//! How good is a model? Metrics, intervals, reports, and which images to correct next.

mod overlap; // Which nuclei share pixels?
mod assign; // Who belongs to whom?
mod pixel_counts; // Yes or no per pixel.
mod confusion; // Which class was taken for which?
mod auc; // Does what is true score higher?
mod aggregated; // DICE, AJI, AJI+.
mod panoptic; // DQ, SQ, PQ.
mod detection; // Nuclei as points.
mod s_measure; // Structure, absolute error.
mod e_measure; // Alignment.
mod weighted_f; // Errors by where they lie.
mod bootstrap; // How far would numbers move?
mod error; // What can go wrong?
mod memory_slide; // A picture as a slide.
mod predicted; // What was said of an image?
mod predict; // What does a model say of a picture?
mod by_organ; // A model told what it sees.
mod classes; // Which classes are compared?
mod score; // One image.
mod formulas; // What is each measure made of?
mod measures; // Many images.
mod folder; // Images and what is true of them.
mod sample_cases; // Those a training keeps back.
mod results; // What did an earlier run say?
mod picture; // What is true and said, drawn.
mod report; // The page.
mod before; // An earlier evaluation.
mod evaluation; // All of it.
pub mod refine; // A human in the loop.

pub use aggregated::{Aggregate, aji, aji_plus, dice, ensemble_dice};
pub use assign::{max_weight_pairs, min_cost_assignment, near_pairs};
pub use auc::{roc_auc, roc_auc_of_levels};
pub use before::{Before, Change};
pub use bootstrap::{Bootstrap, Interval};
pub use by_organ::OrganPredictor;
pub use classes::Classes;
pub use confusion::Confusion;
pub use detection::{
    DOT_RADIUS_UM, Detection, HOVER_NET_RADIUS_PX, HoverNetTypes, Point, TypeCounts, detect, detect_class,
};
pub use e_measure::{EMeasure, e_measure};
pub use error::EvaluateError;
pub use evaluation::{Evaluation, Judged, Options, evaluate};
pub use folder::{FolderCases, TrueCase, TrueCases, TruthKind, patient_of};
pub use measures::{Case, Measure, main_measure, measures};
pub use overlap::{Overlap, Overlaps};
pub use panoptic::{MATCH_IOU, Panoptic, bpq_hover_net, bpq_pannuke, class_pq_pannuke, mpq_hover_net, mpq_pannuke};
pub use pixel_counts::PixelCounts;
pub use predict::Predictor;
pub use predicted::{FoundNucleus, Predicted, fill};
pub use results::ResultsJudge;
pub use s_measure::{mean_absolute_error, s_measure};
pub use sample_cases::SampleCases;
pub use score::{CaseScore, MapScore, NucleiScore, score};
pub use weighted_f::weighted_f;
