//! Files and names of strangers: no panic, no write outside the output directory, no unbounded memory.

use crate::program::*;
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
    process::{Command, Stdio},
};

/// A TIFF of some hundred bytes that claims to be 450,000 × 450,000 px of JPEG tiles: 600 GB of pixels.
fn bomb(path: &Path, compression: u32) {
    let entries: [(u16, u16, u32, u32); 11] = [
        (254, 4, 1, 0),
        (256, 4, 1, 450_000),
        (257, 4, 1, 450_000),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 6),
        (277, 3, 1, 3),
        (322, 4, 1, 256),
        (323, 4, 1, 256),
        // As many tiles as there would be, all "in" this file.
        (324, 4, 1758 * 1758, 8),
        (325, 4, 1758 * 1758, 8),
    ];
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    tiff.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        tiff.extend_from_slice(&tag.to_le_bytes());
        tiff.extend_from_slice(&kind.to_le_bytes());
        tiff.extend_from_slice(&count.to_le_bytes());
        tiff.extend_from_slice(&value.to_le_bytes());
    }
    tiff.resize(1024, 0);
    fs::write(path, tiff).unwrap();
}

/// A PNG of 200 bytes that claims 100,000 × 100,000 px.
fn png_bomb(path: &Path) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 100_000, 100_000);
    encoder.set_color(png::ColorType::Rgb);
    let _ = encoder.write_header().unwrap();
}

fn is_quiet(stderr: &[u8]) -> bool {
    !text(stderr).contains("panicked")
}

#[test]
fn files_that_claim_more_than_they_hold_fail_alone_in_little_memory() {
    let home = home(
        "slides: { dir: slides, mpp: 0.5 }\nmodel: { hematoxylin: {} }\noutput: { dir: out }\nrun: { settle_secs: 0 }\n",
    );
    let slides = home.path().join("slides");
    fs::create_dir(&slides).unwrap();
    bomb(&slides.join("jpeg.tif"), 7);
    bomb(&slides.join("plain.tif"), 1);
    bomb(&slides.join("deflate.svs"), 8);
    png_bomb(&slides.join("big.png"));
    fs::write(slides.join("empty.svs"), "").unwrap();
    picture(&slides.join("good.png"), 5);
    // 3 GB of addresses: the program, its threads, and no 600 GB.
    let program = env!("CARGO_BIN_EXE_wsi-run");
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 3000000; exec \"$0\" \"$@\"", program, "p.yaml", "--no-progress", "--threads", "2"])
        .current_dir(home.path())
        .env_remove("WSI_RUN_THREADS")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_code(&output, 3);
    assert!(is_quiet(&output.stderr), "{}", text(&output.stderr));
    let rows = rows(&home.path().join("out"));
    let failed = rows.values().filter(|row| row.iter().any(|cell| cell == "status \"failed\"")).count();
    assert_eq!((rows.len(), failed), (6, 5), "{rows:?}");
    for (id, row) in rows.iter().filter(|(_, row)| row.iter().any(|cell| cell == "status \"failed\"")) {
        assert!(!row.iter().any(|cell| cell == "error null"), "{id}");
    }
}

#[test]
fn names_of_any_bytes_and_links_in_circles_are_slides_or_passed_over() {
    let home = home(
        "slides: { dir: slides, mpp: 0.5 }\nmodel: { hematoxylin: {} }\noutput: { dir: out }\nrun: { settle_secs: 0 }\n",
    );
    let slides = home.path().join("slides");
    fs::create_dir_all(slides.join("deep/er")).unwrap();
    let names: [&[u8]; 7] = [
        b"plain.png",
        b"\xff\xfe not text.png",
        b"new\nline\ttab.png",
        b"..png",
        b"-rf --help.png",
        "ä \u{202e}gnp.💥.png".as_bytes(),
        b"%2e%2e%2f\"'$(touch x)`touch y`.png",
    ];
    for (i, name) in names.iter().enumerate() {
        picture(&slides.join(OsStr::from_bytes(name)), i as u64 * 5 + 1);
    }
    fs::write(slides.join(OsStr::from_bytes(b"\x1b[2J\nall: complete\x07.svs")), "no slide").unwrap();
    symlink("../..", slides.join("deep/circle")).unwrap();
    symlink("itself.png", slides.join("itself.png")).unwrap();
    symlink("/nowhere/at/all.png", slides.join("dangling.png")).unwrap();
    let output = wsi_run(home.path(), &["p.yaml", "--no-progress"]);
    assert!(is_quiet(&output.stderr), "{}", text(&output.stderr));
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", text(&output.stderr));
    let rows = rows(&home.path().join("out"));
    let complete = rows.values().filter(|row| row.iter().any(|cell| cell == "status \"complete\"")).count();
    assert!(complete >= names.len(), "{rows:?}");
    // No name commands a terminal, or writes a line of its own into a log.
    let said = files(&home.path().join("out/logs")).into_values().chain([output.stderr.clone()]);
    for said in said.map(|bytes| text(&bytes)) {
        assert!(!said.lines().any(|line| line.contains('\x1b') || line.starts_with("all: complete")), "{said:?}");
    }
    // Nothing beside what was there and the output directory.
    let beside: Vec<_> = fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 3, "{beside:?}");
    // What is known is known again, by name and by state.
    let again = wsi_run(home.path(), &["p.yaml", "-q"]);
    assert_eq!(again.status.code(), output.status.code());
    for verb in ["status", "merge", "verify"] {
        let said = wsi_run(home.path(), &[verb, "out"]);
        assert!(is_quiet(&said.stderr) && said.status.code() != Some(1), "{verb}: {}", text(&said.stderr));
    }
}

#[test]
fn a_batch_that_names_places_elsewhere_writes_nothing_there() {
    let home = home(
        "slides: { dir: slides, mpp: 0.5 }\nmodel: { hematoxylin: {} }\noutput: { dir: a/out }\nrun: { settle_secs: 0 }\n",
    );
    fs::create_dir(home.path().join("slides")).unwrap();
    picture(&home.path().join("slides/s.png"), 5);
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    let out = home.path().join("a/out");
    let list = out.join(".state/list.json");
    let good = fs::read_to_string(&list).unwrap();
    for evil in ["../../evil", "../../../evil", "/tmp/evil", ".."] {
        fs::write(&list, good.replace("\"id\":\"s\"", &format!("\"id\":\"{evil}\""))).unwrap();
        for arguments in [
            &["merge", "a/out"][..],
            &["status", "a/out"],
            &["retry", "a/out", "-q"],
            &["p.yaml", "-q", "--shard", "1/1", "--listed"],
        ] {
            let said = wsi_run(home.path(), arguments);
            assert!(is_quiet(&said.stderr), "{arguments:?}: {}", text(&said.stderr));
            assert_ne!(said.status.code(), Some(0), "{arguments:?} with {evil}");
        }
        let found = files(home.path());
        assert!(!found.keys().any(|name| name.contains("evil")), "{:?}", found.keys());
    }
    // A state whose files lie elsewhere is no state: the slide is run again, and nothing elsewhere is touched.
    fs::write(&list, good).unwrap();
    let state = out.join(".state/slides/s.json");
    let text_of = fs::read_to_string(&state).unwrap();
    fs::write(&state, text_of.replace("overviews/s.png", "overviews/../../../p.yaml")).unwrap();
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    assert_eq!(logged(&out, "started on"), 2);
    // Names in YAML: results go where they say, and slides of the same directory are refused.
    let said = wsi_run(home.path(), &["p.yaml", "-q", "--set", "output.dir=slides/../slides"]);
    assert!(is_quiet(&said.stderr), "{}", text(&said.stderr));
    assert!(fs::metadata(home.path().join("slides/s.png")).unwrap().len() > 0);
}
