//! Every parser of ours over sound input and input made from it by changing it: no panic, no memory out of proportion.
//!
//! The same functions run for hours under libFuzzer: `tests/fuzz/run.sh`. What it has found is in `fixtures/parsers`.

#[path = "fuzz/parsers/mod.rs"]
mod targets;

use std::path::Path;
use targets::{ALL, Parser, clean};

/// Numbers that look random; the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

/// Values at which parsers stumble.
const ODD: [&[u8]; 12] = [
    &[0],
    &[0xff; 4],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0, 0, 0, 0x80],
    &[0xff; 8],
    b"-1",
    b"4294967295",
    b"1e400",
    b"NaN",
    b"\"",
    b"\n",
    "\u{fffd}µ".as_bytes(),
];

/// `seed` changed in a few places.
fn changed(seed: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + dice.roll(9)).min(bytes.len());
        match dice.roll(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            2 => drop(bytes.splice(at..end, ODD[dice.roll(ODD.len())].iter().copied())),
            3 => drop(bytes.splice(at..end, other.iter().copied().skip(dice.roll(other.len())).take(40))),
            4 => {
                // Again and again: lists grow, brackets nest.
                let part = bytes[at..end].repeat(1 + dice.roll(60));
                bytes.splice(at..end, part);
            }
            _ => drop(bytes.drain(at..end)),
        }
    }
    bytes
}

/// What was once found, for good.
fn found_before(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parsers").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a fixture can be read")).collect()
}

fn holds(name: &str) {
    let Parser { parse, seeds, .. } = ALL.iter().find(|parser| parser.name == name).expect("it is in the list");
    let seeds = seeds();
    assert!(!seeds.is_empty());
    seeds.iter().chain(&found_before(name)).for_each(|seed| parse(seed));
    let mut dice = Dice(0x5eed_0b17);
    for i in 0..300 {
        let bytes = changed(&seeds[i % seeds.len()], &seeds[dice.roll(seeds.len())], &mut dice);
        // Said when it fails, so that it can be kept.
        let said = std::panic::catch_unwind(|| parse(&bytes));
        assert!(said.is_ok(), "{name} on {:?}", String::from_utf8_lossy(&bytes));
    }
    clean(name);
}

macro_rules! parsers {
    ($($test:ident: $parser:literal,)*) => {
        $(#[test]
        fn $test() {
            holds($parser);
        })*

        #[test]
        fn every_parser_is_tested() {
            let tested = [$($parser),*];
            assert_eq!(ALL.iter().map(|parser| parser.name).collect::<Vec<_>>(), tested);
        }
    };
}

parsers! {
    any_pipeline_is_resolved_or_refused: "config",
    any_training_is_resolved_or_refused: "training",
    any_table_of_resolutions_is_read_or_refused: "mpp_csv",
    any_list_of_classes_is_read_or_refused: "classes",
    any_tiff_is_read_or_refused: "tiff",
    any_description_of_a_tiff_is_read_or_left: "description",
    any_picture_is_decoded_or_refused: "picture",
    any_dicom_file_has_a_series_or_none: "series",
    any_mask_of_tissue_is_read_or_refused: "mask",
    any_outline_of_tissue_is_filled_or_refused: "geojson",
    any_drawn_outlines_are_read_or_refused: "outlines",
    any_file_of_dots_is_read_or_refused: "dots",
    any_array_of_labels_is_read_or_refused: "labels",
    any_zarr_array_is_read_or_refused: "zarr",
    any_file_of_weights_is_opened_or_refused: "weights",
    any_checkpoint_of_pytorch_is_listed_or_refused: "pickle",
    any_checkpoint_of_a_training_is_read_or_refused: "checkpoint",
    any_journal_gives_whole_parts_or_nothing: "journal",
    any_state_of_a_batch_is_gone_on_with_or_without: "state",
    any_change_of_results_is_survived_by_who_reads_them: "verify",
    any_corrections_are_imported_or_refused_in_their_place: "refine",
    any_earlier_evaluation_is_read_or_refused: "evaluation",
}
