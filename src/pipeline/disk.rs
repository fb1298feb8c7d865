//! How much room a slide's results will take, told before it is run.
//!
//! Owns: [`result_bytes`] and the rates behind it. Must not know: files, formats.
//!
//! Every output grows with the area computed and with the resolution: outlines with its inverse or so, pictures of
//! probabilities with its square. The rates are fits to what was written for H&E tissue (a 16,000 × 16,000 px slide of
//! breast, CMU-1, OS-1) at 0.25, 0.5 and 1 µm/px; the tests hold them to within 40 % of each.

use crate::{config::settings, output::ResultKind};

/// Bytes of an overview picture.
const OVERVIEW_BYTES: u64 = 3_000_000;

/// Bytes per mm²: `at_1_um · mpp^-power`.
struct Rate {
    at_1_um: f64,
    power: f64,
}

impl Rate {
    fn bytes_per_mm2(&self, um_per_px: f64) -> f64 {
        self.at_1_um * um_per_px.powf(-self.power)
    }
}

/// What each output of a kind of result takes.
struct Rates {
    masks: Rate,
    /// One channel.
    prob: Rate,
    table: Rate,
    geojson: Rate,
}

/// 3,300 to 5,300 nuclei per mm².
const NUCLEI: Rates = Rates {
    masks: Rate { at_1_um: 310e3, power: 1.3 },
    prob: Rate { at_1_um: 950e3, power: 1.83 },
    table: Rate { at_1_um: 750e3, power: 0.55 },
    geojson: Rate { at_1_um: 780e3, power: 0.55 },
};
/// A stain's threshold, whose classes are as ragged as the pixels.
const CLASSES: Rates = Rates {
    masks: Rate { at_1_um: 215e3, power: 1.6 },
    prob: Rate { at_1_um: 215e3, power: 1.6 },
    table: Rate { at_1_um: 200e3, power: 1.4 },
    geojson: Rate { at_1_um: 200e3, power: 1.35 },
};

/// Bytes of everything `output` asks for, about, for a slide of which `computed_mm2` are computed at `um_per_px`;
/// `prob_channels` are those written, be it only while the slide is worked on.
pub fn result_bytes(
    kind: ResultKind,
    output: &settings::Output,
    um_per_px: f64,
    computed_mm2: f64,
    prob_channels: u32,
) -> u64 {
    let rates = match kind {
        ResultKind::Nuclei => &NUCLEI,
        // Tiles are classes on a coarse grid.
        ResultKind::Semantic | ResultKind::Tiles => &CLASSES,
    };
    let wanted = [
        (&rates.masks, f64::from(u8::from(output.ome_zarr.is_some()))),
        (&rates.prob, f64::from(prob_channels)),
        (&rates.table, f64::from(u8::from(output.parquet.is_some()))),
        (&rates.geojson, f64::from(u8::from(output.geojson.is_some()))),
    ];
    let per_mm2: f64 = wanted.iter().map(|(rate, times)| rate.bytes_per_mm2(um_per_px) * times).sum();
    (per_mm2 * computed_mm2) as u64 + if output.overview.is_some() { OVERVIEW_BYTES } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{Geojson, OmeZarr, OmeZarrVersion, Origin, Output, Parquet};

    fn output(masks: bool, prob: bool, table: bool, geojson: bool) -> Output {
        let ome_zarr = OmeZarr { chunk_px: 512, version: OmeZarrVersion::V05, zstd_level: 3, prob };
        Output {
            dir: "out".into(),
            ome_zarr: masks.then_some(ome_zarr),
            parquet: table.then_some(Parquet { row_group_rows: 20_000, zstd_level: 3 }),
            geojson: geojson.then_some(Geojson { origin: Origin::Full }),
            overview: None,
            report: false,
        }
    }

    /// kB per mm² of masks, probabilities, table and GeoJSON, as written for the slide of breast and CMU-1.
    const MEASURED: [(ResultKind, f64, [[f64; 4]; 2]); 5] = [
        (ResultKind::Nuclei, 0.25, [[1751.0, 11737.0, 1320.0, 1488.0], [1971.0, 11759.0, 1777.0, 1858.0]]),
        (ResultKind::Nuclei, 0.5, [[724.0, 3507.0, 843.0, 1024.0], [822.0, 3445.0, 1197.0, 1244.0]]),
        (ResultKind::Nuclei, 1.0, [[286.0, 979.0, 604.0, 722.0], [323.0, 915.0, 825.0, 856.0]]),
        (ResultKind::Semantic, 0.25, [[1807.0, 1788.0, 1191.0, 1058.0], [2009.0, 1990.0, 1433.0, 1377.0]]),
        (ResultKind::Semantic, 0.5, [[613.0, 600.0, 429.0, 508.0], [704.0, 684.0, 658.0, 646.0]]),
    ];

    #[test]
    fn every_output_is_told_within_40_percent_of_what_was_written() {
        for (kind, um_per_px, slides) in MEASURED {
            let told = |output: &Output| {
                let prob = output.ome_zarr.as_ref().is_some_and(|zarr| zarr.prob);
                result_bytes(kind, output, um_per_px, 10.0, u32::from(prob)) as f64 / 10e3
            };
            let masks = told(&output(true, false, false, false));
            let of_each = [
                masks,
                told(&output(true, true, false, false)) - masks,
                told(&output(false, false, true, false)),
                told(&output(false, false, false, true)),
            ];
            for slide in slides {
                for (told, written) in of_each.iter().zip(slide) {
                    assert!((told / written - 1.0).abs() < 0.4, "{kind:?} {um_per_px}: {told} told, {written} written");
                }
            }
        }
    }

    #[test]
    fn what_is_not_written_takes_no_room() {
        assert_eq!(result_bytes(ResultKind::Nuclei, &output(false, false, false, false), 0.5, 100.0, 0), 0);
    }
}
