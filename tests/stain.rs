//! Stain normalisation against torchstain, scikit-learn and scikit-image (`fixtures/stain/make.py`), and its laws.

use proptest::prelude::*;
use std::path::{Path, PathBuf};
use wsi_run::{
    config::settings::{Stain, StainReference},
    pixels::{
        RgbImage,
        stain::{Deconvolution, LabTransform, StainFit, StainTarget, StainTransform, fit, reference, reinhard},
    },
};

const PATCHES: [&str; 4] = ["brca_a0d9", "brca_a06y", "brca_a2fb", "cmu_1"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stain").join(name)
}

fn patch(name: &str) -> RgbImage {
    reference::read(&fixture(&format!("{name}.png"))).unwrap()
}

fn expected() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap()
}

fn rows(value: &serde_json::Value) -> Vec<[f64; 3]> {
    value.as_array().unwrap().iter().map(|r| [0, 1, 2].map(|i| r[i].as_f64().unwrap())).collect()
}

/// The px of the fixtures: every 61st.
fn picked(rgb: &[u8]) -> Vec<[f64; 3]> {
    rgb.chunks_exact(3).step_by(61).map(|p| [p[0], p[1], p[2]].map(f64::from)).collect()
}

fn worst(a: &[[f64; 3]], b: &[[f64; 3]]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().flatten().zip(b.iter().flatten()).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

fn angle_deg(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    let dot = |x: &[f64; 3], y: &[f64; 3]| x.iter().zip(y).map(|(p, q)| p * q).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).min(1.0).acos().to_degrees()
}

fn all_methods(reference: &StainReference) -> [Stain; 4] {
    [Stain::Macenko, Stain::Reinhard, Stain::Vahadane, Stain::Ruifrok].map(|method| method(reference.clone()))
}

#[test]
fn macenko_is_within_one_grey_level_of_torchstain() {
    let expected = expected();
    for name in PATCHES {
        let want = &expected[name];
        let original = patch(name).data;
        let fitted = fit(&original, &Stain::Macenko(StainReference::Standard)).unwrap();
        for (got, want) in fitted.vectors.unwrap().iter().zip(&rows(&want["macenko_vectors"])) {
            assert!(angle_deg(got, want) < 0.01, "{name}: {got:?}, torchstain {want:?}");
        }
        for (i, got) in fitted.max_concentrations.unwrap().iter().enumerate() {
            assert!((got / want["macenko_max"][i].as_f64().unwrap() - 1.0).abs() < 1e-3, "{name}: {got}");
        }
        let to_cmu = Stain::Macenko(StainReference::Image(fixture("cmu_1.png")));
        for (fitted, key) in [(fitted, "macenko"), (fit(&original, &to_cmu).unwrap(), "macenko_to_cmu_1")] {
            let mut rgb = original.clone();
            fitted.transform.apply(&mut rgb);
            let off = worst(&picked(&rgb), &rows(&want[key]));
            assert!(off <= 1.0, "{name} {key}: {off} grey levels from torchstain");
        }
    }
}

#[test]
fn reinhard_is_within_one_grey_level_of_torchstain_on_equal_statistics() {
    // torchstain takes the means over all px of a picture, so the statistics of all px are given here.
    let expected = expected();
    let target = reinhard::fit_stats(&patch("cmu_1").data).unwrap();
    for name in PATCHES {
        let mut rgb = patch(name).data;
        LabTransform::new(&reinhard::fit_stats(&rgb).unwrap(), &target).apply(&mut rgb);
        let off = worst(&picked(&rgb), &rows(&expected[name]["reinhard_to_cmu_1"]));
        assert!(off <= 1.0, "{name}: {off} grey levels from torchstain");
    }
}

#[test]
fn vahadane_vectors_are_those_of_a_converged_dictionary_learning() {
    let expected = expected();
    for name in PATCHES {
        let fitted = fit(&patch(name).data, &Stain::Vahadane(StainReference::Standard)).unwrap();
        for (got, want) in fitted.vectors.unwrap().iter().zip(rows(&expected[name]["vahadane_vectors"])) {
            let angle = angle_deg(got, &want);
            assert!(angle < 5.0, "{name}: {got:?} is {angle:.2}° from scikit-learn's {want:?}");
        }
    }
}

#[test]
fn deconvolution_is_six_times_that_of_scikit_image() {
    let expected = expected();
    let all = [
        ("h_e_residual", Deconvolution::h_e()),
        ("h_dab_residual", Deconvolution::h_dab()),
        ("h_e_dab", Deconvolution::h_e_dab()),
    ];
    for name in PATCHES {
        let rgb = patch(name).data;
        for (key, deconvolution) in all {
            let want = rows(&expected[name][key]);
            let mut compared = 0;
            for (p, want) in rgb.chunks_exact(3).step_by(61).zip(want).filter(|(p, _)| !p.contains(&0)) {
                // scikit-image cuts negative densities off, and takes 0 for 1e-6 instead of 1 / 255.
                let got = deconvolution.px([p[0], p[1], p[2]]).map(|d| f64::from(d).max(0.0) / 6.0);
                assert!(worst(&[got], &[want]) < 2e-5, "{name} {key} {p:?}: {got:?}, scikit-image {want:?}");
                compared += 1;
            }
            assert!(compared > 180, "{name}: {compared}");
        }
    }
}

#[test]
fn a_slide_of_the_reference_look_keeps_its_mean_colour() {
    for stain in all_methods(&StainReference::Image(fixture("cmu_1.png"))) {
        let mut rgb = patch("cmu_1").data;
        let before = rgb.clone();
        // Reinhard leaves the background of a reference out, and so does a tissue sample.
        let sample = match stain {
            Stain::Reinhard(_) => reinhard::without_background(&rgb),
            _ => rgb.clone(),
        };
        let fitted = fit(&sample, &stain).unwrap();
        assert_eq!(fitted.flag, None);
        fitted.transform.apply(&mut rgb);
        // The two-stain methods drop what is neither stain, most of all with fixed vectors.
        let mean = |rgb: &[u8]| rgb.iter().map(|&v| f64::from(v)).sum::<f64>() / rgb.len() as f64;
        assert!((mean(&rgb) - mean(&before)).abs() < 10.0, "{}: {} → {}", fitted.method, mean(&before), mean(&rgb));
    }
}

#[test]
fn a_sample_that_does_not_determine_the_stains_leaves_the_slide_as_it_is_and_says_so() {
    let noise = |base: u8, spread: u32| -> Vec<u8> {
        (0..3 * 4000_u32).map(|i| base + ((i.wrapping_mul(2_654_435_761) >> 24) % spread) as u8).collect()
    };
    let one_stain: Vec<u8> = (0..4000_u32)
        .flat_map(|i| {
            let density = 0.6 + f64::from(i % 100) / 80.0;
            [0.65, 0.70, 0.29].map(|v: f64| (240.0 * (-v * density).exp()).round() as u8)
        })
        .collect();
    let samples = [
        ("empty", Vec::new()),
        ("few px", patch("cmu_1").data[..300].to_vec()),
        ("white", vec![255; 30_000]),
        ("black", vec![0; 30_000]),
        ("near white", noise(243, 2)),
        ("one colour", [180, 90, 150].repeat(4000)),
        ("one stain", one_stain),
        ("not whole px", vec![120; 7]),
    ];
    for (what, sample) in samples {
        for stain in all_methods(&StainReference::Standard) {
            let fitted = fit(&sample, &stain).unwrap();
            // Reinhard knows no stains; fixed vectors find some of both in one colour.
            let determined = matches!((what, fitted.method), ("one stain", "reinhard") | ("one colour", "ruifrok"));
            assert_eq!(fitted.transform == StainTransform::Identity, !determined, "{what}: {fitted:.80?}");
            assert_eq!(fitted.flag.is_some(), !determined, "{what}: {}", fitted.method);
        }
    }
}

#[test]
fn no_method_is_the_identity_without_a_flag() {
    let StainFit { transform, flag, method, .. } = fit(&[1, 2, 3], &Stain::None).unwrap();
    assert_eq!((transform, flag, method), (StainTransform::Identity, None, "none"));
}

#[test]
fn a_broken_reference_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let png = std::fs::read(fixture("cmu_1.png")).unwrap();
    let mut white = Vec::new();
    let mut encoder = png::Encoder::new(&mut white, 64, 64);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&[255; 64 * 64 * 3]).unwrap();
    let broken = [
        dir.path().join("missing.png"),
        dir.path().to_owned(),
        write("empty.png", &[]),
        write("text.png", b"not a picture"),
        write("half.png", &png[..png.len() / 2]),
        write("half.jpg", &[0xff, 0xd8, 0xff, 0xe0, 0, 16]),
        write("half.tif", &[b'I', b'I', 42, 0, 8, 0, 0, 0]),
        write("white.png", &white),
    ];
    for path in broken {
        for stain in all_methods(&StainReference::Image(path.clone())) {
            let error = StainTarget::new(&stain).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("stain reference cannot be used: "), "{text}");
            assert!(text.ends_with(&path.display().to_string()) && !error.hint().is_empty(), "{text}");
        }
    }
}

#[test]
fn the_order_of_the_sample_does_not_matter() {
    let rgb = patch("brca_a2fb").data;
    let reversed: Vec<u8> = rgb.chunks_exact(3).rev().flatten().copied().collect();
    for stain in all_methods(&StainReference::Standard) {
        let (mut a, mut b) = (rgb.clone(), rgb.clone());
        fit(&rgb, &stain).unwrap().transform.apply(&mut a);
        fit(&reversed, &stain).unwrap().transform.apply(&mut b);
        let off = a.iter().zip(&b).map(|(x, y)| x.abs_diff(*y)).max().unwrap();
        assert!(off <= 1, "{stain:?}: {off}");
    }
}

#[test]
fn the_bytes_that_come_out_are_pinned() {
    // The same on every machine, in every build, with every instruction set: FNV-1a of the outputs.
    let pinned = [
        ("macenko", 9_869_444_222_739_116_766),
        ("reinhard", 11_940_134_830_748_688_258),
        ("vahadane", 3_903_607_411_371_293_180),
        ("ruifrok", 1_688_363_652_608_744_419_u64),
    ];
    let got = all_methods(&StainReference::Standard).map(|stain| {
        let mut rgb = patch("brca_a0d9").data;
        let fitted = fit(&rgb, &stain).unwrap();
        fitted.transform.apply(&mut rgb);
        let fnv = |h: u64, &b: &u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
        (fitted.method, rgb.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
    });
    assert_eq!(got, pinned);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn identity_keeps_every_byte(rgb in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut out = rgb.clone();
        StainTransform::Identity.apply(&mut out);
        prop_assert_eq!(out, rgb);
    }

    #[test]
    fn any_sample_gives_finite_numbers_and_a_map_of_single_pixels(
        mut sample in prop::collection::vec(any::<u8>(), 0..6000),
        colour in any::<[u8; 3]>(),
        rgb in prop::collection::vec(any::<u8>(), 0..200),
        cut_px in 0_usize..60,
    ) {
        // Half noise, half of one colour: the degenerate cases lie between.
        let half = sample.len() / 6 * 3;
        sample[half..].chunks_exact_mut(3).for_each(|px| px.copy_from_slice(&colour));
        for stain in all_methods(&StainReference::Standard) {
            let fitted = fit(&sample, &stain).unwrap();
            prop_assert_eq!(fitted.flag.is_some(), fitted.transform == StainTransform::Identity);
            let stains = fitted.vectors.iter().flatten().flatten().chain(fitted.max_concentrations.iter().flatten());
            let lab = fitted.lab.iter().flat_map(|l| l.mean.iter().chain(&l.std));
            prop_assert!(stains.chain(lab).all(|x| x.is_finite()));
            // A tile cut in two gives the same pixels as the whole: nothing depends on neighbours.
            let (mut whole, mut parts) = (rgb.clone(), rgb.clone());
            fitted.transform.apply(&mut whole);
            let (a, b) = parts.split_at_mut((3 * cut_px).min(rgb.len() / 3 * 3));
            fitted.transform.apply(a);
            fitted.transform.apply(b);
            prop_assert_eq!(whole, parts);
        }
    }
}
