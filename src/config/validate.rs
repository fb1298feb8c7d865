//! What no key can tell alone: combinations that cannot work.
//!
//! Owns: [`validate`]. Must not know: how settings were written, files, devices. Pure.

use super::settings::{
    Device, ModelChoice, NetworkWeights, Precision, Settings, SlideSource, TissueChannel, TissueMethod, Window,
};
use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

/// A combination that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The keys involved, the one to blame first.
    pub paths: Vec<Cow<'static, str>>,
    /// What failed, found, expected.
    pub message: String,
    /// What the user can do about it.
    pub hint: String,
}

mod data;
mod training;

pub use training::validate_training;

/// Every combination that cannot work, in the order of the flow.
pub fn validate(settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    slides(settings, &mut problems);
    tissue(settings, &mut problems);
    tiling(settings, &mut problems);
    model(settings, &mut problems);
    instances(settings, &mut problems);
    output(settings, &mut problems);
    problems
}

pub(super) fn problem(paths: &[&'static str], message: String, hint: &str) -> Problem {
    Problem { paths: paths.iter().map(|&path| path.into()).collect(), message, hint: hint.to_owned() }
}

fn slides(settings: &Settings, problems: &mut Vec<Problem>) {
    let s = &settings.slides;
    if s.mpp.is_some() && s.mpp_csv.is_some() {
        problems.push(problem(
            &["slides.mpp_csv", "slides.mpp"],
            "`slides.mpp` and `slides.mpp_csv` both say the resolution of slides, expected one of them".to_owned(),
            "`slides.mpp` holds for every slide; remove it to use the table",
        ));
    }
    if matches!(s.source, SlideSource::Synthetic(_)) && (s.mpp.is_some() || s.mpp_csv.is_some()) {
        let key = if s.mpp.is_some() { "slides.mpp" } else { "slides.mpp_csv" };
        problems.push(problem(
            &[key, "slides.synthetic.mpp"],
            format!("`{key}` has no meaning for `slides.synthetic`: a drawn slide knows its resolution"),
            "set `slides.synthetic.mpp`",
        ));
    }
}

fn tissue(settings: &Settings, problems: &mut Vec<Problem>) {
    if let TissueMethod::Fixed { channel: TissueChannel::Saturation, threshold } = settings.tissue.method
        && threshold > 1.0
    {
        problems.push(problem(
            &["tissue.fixed.threshold", "tissue.fixed.channel"],
            format!("`tissue.fixed.threshold` is above every saturation: found `{threshold}`, expected 0 to 1"),
            "saturation runs from 0 to 1; for more, use `channel: optical_density`",
        ));
    }
}

fn tiling(settings: &Settings, problems: &mut Vec<Problem>) {
    let t = &settings.tiling;
    let margin_px = t.margin_px.unwrap_or(0);
    let Some(tile_px) = t.tile_px else { return };
    if 2 * u64::from(margin_px) >= u64::from(tile_px) {
        problems.push(problem(
            &["tiling.margin_px", "tiling.tile_px"],
            format!(
                "`tiling.margin_px` leaves nothing of the tile: found `{margin_px}` on each side of `{tile_px}` px"
            ),
            "make `tile_px` larger than twice `margin_px`",
        ));
        return;
    }
    let core_px = tile_px - 2 * margin_px;
    match t.stride_px {
        Some(stride_px) if stride_px > core_px => problems.push(problem(
            &["tiling.stride_px", "tiling.margin_px", "tiling.tile_px"],
            format!(
                "`tiling.stride_px` leaves gaps between tiles: found `{stride_px}`, expected at most `{core_px}` \
                 = tile_px − 2·margin_px = {tile_px} − 2·{margin_px}"
            ),
            "lower `stride_px`, or leave it out: it follows from tile and margin",
        )),
        Some(stride_px) if u64::from(stride_px) * 16 < u64::from(core_px) => problems.push(problem(
            &["tiling.stride_px", "tiling.tile_px"],
            format!(
                "`tiling.stride_px` covers each pixel more than 256 times: found `{stride_px}`, expected at least `{}`",
                core_px.div_ceil(16)
            ),
            "raise `stride_px`, or leave it out: it follows from tile and margin",
        )),
        _ => {}
    }
    if settings.stitch.window == Window::Hann && t.stride_px == Some(core_px) {
        problems.push(problem(
            &["stitch.blend", "tiling.stride_px"],
            format!("`stitch.blend` has nothing to blend: tiles do not overlap at stride `{core_px}` px"),
            "lower `tiling.stride_px`, for example to half of it, or use `stitch: crop`",
        ));
    }
}

/// Network of the weights that the program has in itself.
const NUCLEI: &str = "stardist_unet";

fn model(settings: &Settings, problems: &mut Vec<Problem>) {
    if let ModelChoice::Network(m) = &settings.model {
        match (&m.weights, &m.name) {
            (NetworkWeights::Nuclei, Some(name)) if name != NUCLEI => problems.push(problem(
                &["model.network.weights", "model.network.name"],
                format!("`model.network` has no weights for `{name}`, expected `weights`: those of `nuclei` are for `{NUCLEI}`"),
                "`wsi-run convert` makes a file of a PyTorch checkpoint; `weights: random` with a `name` tries a network",
            )),
            (NetworkWeights::Random, None) => problems.push(problem(
                &["model.network.weights", "model.network.name"],
                "`model.network.weights` is `random`, expected a `name` beside it".to_owned(),
                "say which network: `wsi-run models` lists them",
            )),
            _ => {}
        }
        device(&m.device, m.precision, problems);
    }
    if let ModelChoice::Hematoxylin(m) = &settings.model
        && m.local_radius_um <= m.smooth_sigma_um
    {
        problems.push(problem(
            &["model.hematoxylin.local_radius_um", "model.hematoxylin.smooth_sigma_um"],
            format!(
                "`model.hematoxylin.local_radius_um` is not larger than the smoothing: found `{}`, expected more than `{}` µm",
                m.local_radius_um, m.smooth_sigma_um
            ),
            "the neighbourhood must be larger than a nucleus, 10 µm or more",
        ));
    }
}

fn device(device: &Device, precision: Precision, problems: &mut Vec<Problem>) {
    let keys = ["model.network.device", "model.network.precision"];
    match (device, precision) {
        (Device::Unknown(name), _) => problems.push(problem(
            &keys[..1],
            format!("`model.network.device`: found `{name}`, expected `auto`, `cpu`, `cuda` or `cuda:` and numbers"),
            "`cuda:0,1` is the first and the second GPU; `auto` takes all there are, or the processor",
        )),
        (Device::Cuda(_), Precision::F32) => problems.push(problem(
            &keys,
            "`model.network.precision` is `f32`, expected `f16` or `bf16` on a GPU".to_owned(),
            "GPUs multiply 16-bit numbers and sum in 32 bits; leave `precision` out, or use `device: cpu`",
        )),
        (Device::Cpu, Precision::F16) => problems.push(problem(
            &keys,
            "`model.network.precision` is `f16`, expected `f32` or `bf16` on the processor".to_owned(),
            "leave `precision` out, or use `device: cuda`",
        )),
        _ => {}
    }
}

fn instances(settings: &Settings, problems: &mut Vec<Problem>) {
    let (w, n, s) = (&settings.instances.watershed, &settings.instances.np_hv, &settings.instances.star);
    let areas = [
        ["instances.watershed.min_area_um2", "instances.watershed.max_area_um2"],
        ["instances.np_hv.min_area_um2", "instances.np_hv.max_area_um2"],
        ["instances.np_hv.min_marker_um2", "instances.np_hv.max_area_um2"],
        ["instances.star.min_area_um2", "instances.star.max_area_um2"],
    ];
    let values = [w.min_area_um2, n.min_area_um2, n.min_marker_um2, s.min_area_um2].into_iter().zip([
        w.max_area_um2,
        n.max_area_um2,
        n.max_area_um2,
        s.max_area_um2,
    ]);
    for (keys, (least, most)) in areas.iter().zip(values) {
        if least >= most {
            let key = keys[0];
            problems.push(problem(
                keys,
                format!("`{key}` drops every nucleus: found `{least}`, expected less than max_area_um2 = `{most}`"),
                "a nucleus is some 20 to 200 µm²",
            ));
        }
    }
}

fn output(settings: &Settings, problems: &mut Vec<Problem>) {
    let o = &settings.output;
    if o.ome_zarr.is_none() && o.parquet.is_none() && o.geojson.is_none() && o.overview.is_none() {
        problems.push(problem(
            &["output.ome_zarr", "output.parquet", "output.geojson", "output.overview", "output"],
            "`output` turns everything off, expected at least one of `ome_zarr`, `parquet`, `geojson`, `overview`"
                .to_owned(),
            "`wsi-run plan` says what a run would do without doing it",
        ));
    }
    if let SlideSource::Dir(dir) = &settings.slides.source
        && plain(&o.dir) == plain(dir)
    {
        problems.push(problem(
            &["output.dir", "slides.dir"],
            format!("`output.dir` is the directory of the slides: `{}`", o.dir.display()),
            "nothing is written beside slides; name another directory",
        ));
    }
}

/// The path without `.` and trailing slashes; does not look at the disk.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}
