//! Stain normalisation: fitted once per slide on a sample of its tissue, applied to every tile.
//!
//! Owns: [`StainTarget`] (the look slides are brought to), [`StainFit`], [`StainTransform`].
//! Must not know: tiles' positions, slides, files other than the reference picture.
//! Source: one paper per file; [`macenko`], [`reinhard`], [`vahadane`], [`ruifrok`].
//!
//! A slide whose tissue does not determine its stains (too few px, one stain only, white) keeps its pixels and says
//! why in [`StainFit::flag`]. It never fails and never yields NaN. Only a broken reference picture is an error.

pub mod linear;
pub mod macenko;
pub mod od;
pub mod reference;
pub mod reinhard;
pub mod ruifrok;
pub mod tables;
pub mod vahadane;
pub mod vectors;

pub use od::OdTransform;
pub use reference::StainError;
pub use reinhard::LabTransform;
pub use ruifrok::{Deconvolution, deconvolve_dab_px, deconvolve_px, mean_od_px};
pub use tables::{StainMethod, StainTables};

use crate::{
    config::settings::{Stain, StainReference},
    pixels::RgbImage,
};
use linear::StainPair;

/// Below this many usable px a sample does not say what a slide looks like: one nucleus at 0.5 µm/px is about 200 px.
pub const MIN_SAMPLE_PX: usize = 500;

/// What happens to every pixel of a slide.
#[derive(Debug, Clone, PartialEq)]
pub enum StainTransform {
    /// Pixels as they are.
    Identity,
    /// A 3×3 matrix between optical densities (Macenko, Vahadane, Ruifrok).
    Od(Box<OdTransform>),
    /// An affine map between CIELAB colours (Reinhard).
    Lab(Box<LabTransform>),
}

impl StainTransform {
    /// Changes pixels in place. The same bytes come out on every machine and for every way of cutting the slide.
    ///
    /// # Shapes
    /// - `rgb`: `[n, 3]` u8; up to two trailing bytes that make no pixel stay as they are.
    pub fn apply(&self, rgb: &mut [u8]) {
        match self {
            Self::Identity => {}
            Self::Od(transform) => transform.apply(rgb),
            Self::Lab(transform) => transform.apply(rgb),
        }
    }
}

/// What was found on one slide.
#[derive(Debug, Clone, PartialEq)]
pub struct StainFit {
    /// What happens to the slide's pixels.
    pub transform: StainTransform,
    /// Why the pixels are left as they are, though a method was asked for.
    pub flag: Option<String>,
    /// `none`, `macenko`, `reinhard`, `vahadane`, `ruifrok`.
    pub method: &'static str,
    /// Hematoxylin and eosin as unit optical densities of red, green, blue (natural logarithm, so only the direction
    /// matters); `None` for methods without vectors and when the fit fell back.
    pub vectors: Option<[[f64; 3]; 2]>,
    /// 99th percentile of the concentration of hematoxylin and eosin, before scaling.
    pub max_concentrations: Option<[f64; 2]>,
    /// Mean and standard deviation of CIELAB L*, a*, b* (Reinhard only).
    pub lab: Option<LabStats>,
    /// Pixels the fit looked at.
    pub sample_px: usize,
}

/// Mean and standard deviation of a sample's CIELAB values (L* 0–100).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabStats {
    /// Mean of L*, a*, b*.
    pub mean: [f64; 3],
    /// Standard deviation of L*, a*, b*.
    pub std: [f64; 3],
}

/// The look slides are brought to; made once per run.
#[derive(Debug, Clone, PartialEq)]
pub struct StainTarget {
    look: Look,
}

#[derive(Debug, Clone, PartialEq)]
enum Look {
    None,
    Macenko(StainPair),
    Vahadane(StainPair),
    Ruifrok(StainPair),
    Reinhard(LabStats),
}

impl StainTarget {
    /// Reads and fits the reference.
    ///
    /// # Errors
    /// [`StainError`] when the reference picture cannot be read or does not determine the stains.
    pub fn new(stain: &Stain) -> Result<Self, StainError> {
        let look = match stain {
            Stain::None => Look::None,
            Stain::Macenko(r) => Look::Macenko(pair(r, macenko::standard, macenko::fit_pair)?),
            Stain::Vahadane(r) => Look::Vahadane(pair(r, macenko::standard, vahadane::fit_pair)?),
            Stain::Ruifrok(r) => Look::Ruifrok(pair(r, ruifrok::standard, ruifrok::fit_pair)?),
            Stain::Reinhard(StainReference::Standard) => Look::Reinhard(reinhard::STANDARD),
            Stain::Reinhard(StainReference::Image(path)) => {
                let picture = reference::read(path)?;
                let tissue = reinhard::without_background(&picture.data);
                let stats = reinhard::fit_stats(&tissue).map_err(|why| StainError::undetermined(path, &why))?;
                Look::Reinhard(stats)
            }
        };
        Ok(Self { look })
    }

    /// Fits a slide on a sample of its tissue.
    ///
    /// # Shapes
    /// - `sample_rgb`: `[n, 3]` u8 tissue px, any order.
    pub fn fit(&self, sample_rgb: &[u8]) -> StainFit {
        let sample_px = sample_rgb.len() / 3;
        let (method, fitted) = match &self.look {
            Look::None => return StainFit { flag: None, ..StainFit::identity("none", sample_px, String::new()) },
            Look::Macenko(target) => ("macenko", pair_fit(sample_rgb, target, macenko::fit_pair)),
            Look::Vahadane(target) => ("vahadane", pair_fit(sample_rgb, target, vahadane::fit_pair)),
            Look::Ruifrok(target) => ("ruifrok", pair_fit(sample_rgb, target, ruifrok::fit_pair)),
            Look::Reinhard(target) => ("reinhard", lab_fit(sample_rgb, target)),
        };
        match fitted {
            Ok(fit) => StainFit { method, sample_px, ..fit },
            Err(why) => StainFit::identity(method, sample_px, why),
        }
    }
}

/// Fits one slide; a run with many slides makes its [`StainTarget`] once instead.
///
/// # Shapes
/// - `sample_rgb`: `[n, 3]` u8 tissue px, any order.
///
/// # Errors
/// [`StainError`] when the reference picture cannot be used.
pub fn fit(sample_rgb: &[u8], stain: &Stain) -> Result<StainFit, StainError> {
    Ok(StainTarget::new(stain)?.fit(sample_rgb))
}

/// How a method finds the two stains of a sample, or why it cannot.
type FitPair = fn(&[u8]) -> Result<StainPair, String>;

fn pair(reference: &StainReference, standard: fn() -> StainPair, fit: FitPair) -> Result<StainPair, StainError> {
    match reference {
        StainReference::Standard => Ok(standard()),
        StainReference::Image(path) => {
            let picture: RgbImage = reference::read(path)?;
            fit(&picture.data).map_err(|why| StainError::undetermined(path, &why))
        }
    }
}

fn pair_fit(sample: &[u8], target: &StainPair, fit: FitPair) -> Result<StainFit, String> {
    let source = fit(sample)?;
    let transform = source.transform_to(target).ok_or("the two stains found cannot be told apart")?;
    Ok(StainFit {
        transform: StainTransform::Od(Box::new(transform)),
        vectors: Some(source.vectors),
        max_concentrations: Some(source.max_concentrations),
        ..StainFit::identity("", 0, String::new()).without_flag()
    })
}

fn lab_fit(sample: &[u8], target: &LabStats) -> Result<StainFit, String> {
    let source = reinhard::fit_stats(sample)?;
    let transform = StainTransform::Lab(Box::new(LabTransform::new(&source, target)));
    Ok(StainFit { transform, lab: Some(source), ..StainFit::identity("", 0, String::new()).without_flag() })
}

impl StainFit {
    fn identity(method: &'static str, sample_px: usize, why: String) -> Self {
        Self {
            transform: StainTransform::Identity,
            flag: Some(why),
            method,
            vectors: None,
            max_concentrations: None,
            lab: None,
            sample_px,
        }
    }

    fn without_flag(self) -> Self {
        Self { flag: None, ..self }
    }
}
