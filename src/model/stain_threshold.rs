//! `stain-threshold`: a semantic model of one rule, the optical density of a stain above a value is the class.
//!
//! Owns: [`StainThresholdModel`]. Must not know: slides, tiles' positions.

use super::{
    density::{DensityLut, UNITS_PER_OD},
    spec::{ClassInfo, Head, HeadMap, HeadSpec, Model, ModelError, ModelSpec},
};
use crate::{config::settings::StainThreshold, units::Mpp};

/// One rule, no weights, no context: margin 0, any resolution, any tile.
#[derive(Debug)]
pub struct StainThresholdModel {
    spec: ModelSpec,
    lut: DensityLut,
    /// The class is where the density, in fixed point, is at least this.
    at_least: i32,
}

impl StainThresholdModel {
    /// The rule of `settings` at `input_mpp` (default 1 µm/px).
    pub fn new(settings: &StainThreshold, input_mpp: Option<Mpp>) -> Self {
        let spec = ModelSpec {
            name: "stain_threshold",
            weights_sha256: None,
            input_mpp: input_mpp.unwrap_or(Mpp::new(1.0).expect("1 is positive")),
            any_mpp: true,
            tile_px: 1024,
            tile_step_px: Some(1),
            margin_px: 0,
            usual_margin_px: 0,
            is_certain: true,
            out_stride: 1,
            prob_threshold: None,
            heads: vec![HeadSpec { head: Head::Semantic, channels: 1 }],
            classes: vec![ClassInfo { name: settings.class.clone(), color: settings.color }],
        };
        let at_least = (settings.threshold_od * f64::from(UNITS_PER_OD)).floor() as i32 + 1;
        Self { spec, lut: DensityLut::new(settings.stain), at_least }
    }
}

impl Model for StainThresholdModel {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn is_one_core(&self) -> bool {
        true
    }

    fn is_cheap(&self) -> bool {
        true
    }

    fn forward(&self, images: &[&[u8]], tile_px: u32) -> Result<Vec<Vec<HeadMap>>, ModelError> {
        let yes = Head::Semantic.scale() as i16;
        images
            .iter()
            .map(|rgb| {
                super::spec::check_tile(rgb, tile_px, 0)?;
                let (pixels, _) = rgb.as_chunks::<3>();
                let data =
                    pixels.iter().map(|p| i16::from(self.lut.density(p) >= self.at_least) * yes).collect::<Vec<_>>();
                Ok(vec![HeadMap { head: Head::Semantic, channels: 1, w: tile_px, h: tile_px, data, pixels: None }])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::StainChannel;

    fn model(stain: StainChannel, threshold_od: f64) -> StainThresholdModel {
        let settings = StainThreshold { stain, threshold_od, class: "stained".into(), color: [1, 2, 3] };
        StainThresholdModel::new(&settings, None)
    }

    #[test]
    fn a_pixel_is_the_class_when_its_density_is_above_the_threshold() {
        // Grey 127 has an optical density of log10(2) = 0.30103 in each channel.
        for (threshold_od, expected) in [(0.30, 16384), (0.302, 0)] {
            let out = model(StainChannel::Total, threshold_od).forward(&[&[127; 12]], 2).unwrap();
            assert_eq!(out[0][0].data, vec![expected; 4]);
        }
        assert_eq!(model(StainChannel::Total, 0.0).forward(&[&[255; 3]], 1).unwrap()[0][0].data, vec![0]);
    }

    #[test]
    fn a_buffer_of_the_wrong_size_is_an_error_that_names_both() {
        let error = model(StainChannel::Eosin, 0.1).forward(&[&[0; 5]], 2).unwrap_err().to_string();
        assert!(error.contains("`5`") && error.contains("`12`"), "{error}");
    }
}
