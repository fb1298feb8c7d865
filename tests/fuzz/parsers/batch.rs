//! What runs leave for each other.

use super::{results::make, scratch, write};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};
use wsi_run::{
    output::{SlidePart, replay_journal},
    pipeline,
    run::{Claims, SlideList, StateDir, Taking, Worker},
};

fn replay(path: &Path, bytes: &[u8]) {
    write(path, bytes);
    let replayed = replay_journal(path, "me", &mut |parts| {
        for part in parts {
            let px = part.core().area();
            match part {
                SlidePart::Nuclei { computed, .. } => assert_eq!(computed.len() as u64, px),
                SlidePart::Semantic { classes, .. } => assert_eq!(classes.len() as u64, px),
                SlidePart::Prob { channels, data, .. } => assert_eq!(data.len() as u64, px * u64::from(channels)),
                SlidePart::Tiles { .. } => panic!("no journal holds tiles"),
            }
        }
        Ok(())
    });
    replayed.expect("what is read is no error");
}

/// A journal gives whole parts or nothing. The checksums are made right, so that what is inside an entry is mutated.
pub fn journal(bytes: &[u8]) {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let path = FILE.get_or_init(|| scratch("journal").join("journal"));
    replay(path, bytes);
    replay(path, &[b"wsi-run journal 1 me\n", bytes].concat());
    let mut framed = b"wsi-run journal 1 me\n".to_vec();
    framed.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(bytes);
    framed.extend_from_slice(&sum.sum().to_le_bytes());
    framed.extend_from_slice(bytes);
    replay(path, &framed);
}

pub fn journal_seeds() -> Vec<Vec<u8>> {
    // A region of 4 × 2 px at (0, 0): classes, probabilities, nuclei.
    let head = |tag: u8| [&[tag][..], &[0; 16], &4_u32.to_le_bytes(), &2_u32.to_le_bytes()].concat();
    let stretch = |value: u8, len: u32| [&[value][..], &len.to_le_bytes()].concat();
    let stretches = [&2_u32.to_le_bytes()[..], &stretch(1, 3), &stretch(0, 5)].concat();
    // Class, flags (whole corners), centroid; two runs; features; a probability; a ring of three corners.
    let mut nucleus = vec![1, 2];
    nucleus.extend_from_slice(&[0; 16]);
    nucleus.extend_from_slice(&[2, 0, 2, 3, 2, 1, 1]);
    nucleus.extend_from_slice(&[0; 18 * 8]);
    nucleus.extend_from_slice(&[1, 0, 0, 0, 63, 1, 3, 2, 2, 4, 1, 1, 4]);
    let nucleus = [&(nucleus.len() as u32).to_le_bytes(), &nucleus[..]].concat();
    vec![
        [head(1), stretches.clone()].concat(),
        [&head(2), &1_u32.to_le_bytes()[..], &[9; 8]].concat(),
        [head(0), stretches, 1_u32.to_le_bytes().to_vec(), nucleus].concat(),
    ]
}

/// Who reads what other processes left goes on with it or without it.
pub fn state(bytes: &[u8]) {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = scratch("state");
        for name in ["slides", "claims", "workers"] {
            fs::create_dir_all(dir.join(".state").join(name)).expect("the directory of temporary files can be written");
        }
        dir
    });
    let state = StateDir::new(dir);
    for name in ["slides/a.json", "list.json", "workers/a.json", "claims/a~0"] {
        write(&state.path(name), bytes);
    }
    write(&dir.join("run-1-of-2.json"), bytes);
    if let Some(slide) = state.slide("a") {
        assert_eq!(slide.record.id, "a");
        assert!(serde_json::to_vec(&slide).is_ok());
    }
    if let Some(list) = SlideList::read(&state) {
        let _ = list.entries();
    }
    let _ = Worker::all(&state, Duration::from_secs(60));
    let claims = Claims::new(&state, Duration::from_secs(60));
    let _ = claims.all();
    assert!(!matches!(claims.take("a"), Ok(Taking::Mine(ref claim)) if !claim.is_held()));
    let _ = pipeline::merge(dir);
}

pub fn state_seeds() -> Vec<Vec<u8>> {
    let dir = make("state-made");
    let names = [".state/slides/synthetic-000.json", ".state/list.json", "run.json"];
    let mut seeds: Vec<Vec<u8>> = names.iter().map(|n| fs::read(dir.join(n)).expect("the run left it")).collect();
    // As if it were slide `a`.
    let text = String::from_utf8_lossy(&seeds[0]).replace("\"id\":\"synthetic-000\"", "\"id\":\"a\"");
    seeds.push(text.into_bytes());
    seeds.push(br#"{"host":"h","pid":1,"life":"a b 1","token":"t"}"#.to_vec());
    seeds.push(
        br#"{"owner":{"host":"h","pid":1,"life":"","token":"t"},"shard":null,"job":"1_2","since_unix_secs":1.5,"slides":[{"id":"a","tiles":9,"done":1,"since_unix_secs":2}]}"#
            .to_vec(),
    );
    seeds
}
