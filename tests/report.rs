//! `report.html` in a real browser: it opens from disk without network, sorts, filters, and runs no slide's name.
//!
//! `WSI_RUN_KEEP_REPORT=DIR` keeps the pages there, to be looked at.

use crate::program::*;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use wsi_run::{
    model::ClassInfo,
    output::{Artifact, ReportRun, ReportSlide, SlideRecord, SlideStatus, write_report},
};

/// A browser; none where none is installed.
fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).flat_map(|dir| names.map(|name| dir.join(name))).find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: no Chromium");
    }
    found
}

/// Runs the browser over `page`, without network.
fn browse(browser: &Path, page: &Path, arguments: &[&str]) -> Output {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--window-size=1400,1000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", page.canonicalize().unwrap().display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// Uses a copy of `page` as a reader does, and tells what was seen.
fn drive(browser: &Path, page: &Path) -> Value {
    let html = fs::read_to_string(page).unwrap();
    let errors = "<script>window.seen_errors = []; for (const kind of ['error', 'unhandledrejection', \
                  'securitypolicyviolation']) addEventListener(kind, (e) => seen_errors.push(String(e.message ?? \
                  e.reason ?? e.violatedDirective)), true);</script>";
    let driver = format!("<script>{}</script>\n</body>", include_str!("report/driver.js"));
    let html = html.replacen("<head>", &format!("<head>{errors}"), 1).replace("</body>", &driver);
    let copy = page.with_file_name("driven.html");
    fs::write(&copy, html).unwrap();
    let output = browse(browser, &copy, &["--virtual-time-budget=3000000", "--dump-dom"]);
    fs::remove_file(copy).unwrap();
    assert!(!text(&output.stderr).contains("CONSOLE"), "{}", text(&output.stderr));
    let dom = text(&output.stdout);
    let seen = dom.split("data-seen=\"").nth(1).and_then(|rest| rest.split('"').next());
    let seen = seen.unwrap_or_else(|| panic!("the driver did not end: {}", text(&output.stderr)));
    serde_json::from_slice(&from_base64(seen)).unwrap()
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u32> = text.bytes().filter(|&c| c != b'=').map(|c| digit(c).into()).collect();
    let mut bytes = vec![];
    for four in digits.chunks(4) {
        let bits = (0..4).fold(0, |bits, i| bits << 6 | four.get(i).copied().unwrap_or(0));
        bytes.extend_from_slice(&[(bits >> 16) as u8, (bits >> 8) as u8, bits as u8][..four.len() - 1]);
    }
    bytes
}

/// Keeps the page and pictures of it where `WSI_RUN_KEEP_REPORT` says.
fn keep(browser: &Path, page: &Path, name: &str) {
    let Some(dir) = std::env::var_os("WSI_RUN_KEEP_REPORT").map(PathBuf::from) else { return };
    fs::copy(page, dir.join(format!("{name}.html"))).unwrap();
    for (scheme, blink) in [("light", "1"), ("dark", "0")] {
        let picture = format!("--screenshot={}", dir.join(format!("{name}-{scheme}.png")).display());
        let scheme = format!("--blink-settings=preferredColorScheme={blink}");
        browse(browser, page, &[&picture, &scheme, "--virtual-time-budget=5000"]);
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_report_sorts_filters_and_shows_pictures_without_network_and_runs_no_name() {
    let Some(browser) = browser() else { return };
    let home = home(
        "slides: { dir: slides, mpp: 0.5 }\nmodel: { hematoxylin: {} }\noutput: { dir: out }\nrun: { settle_secs: 0 }\n",
    );
    let slides = home.path().join("slides");
    fs::create_dir(&slides).unwrap();
    for (i, name) in ["a.png", "b.png", "<img src=x onerror=document.title='owned'>.png"].iter().enumerate() {
        picture(&slides.join(name), 7 * i as u64 + 3);
    }
    // A slash in a name is a folder.
    fs::create_dir(slides.join("<script>document.title='owned'<")).unwrap();
    picture(&slides.join("<script>document.title='owned'</script>.png"), 99);
    fs::write(slides.join("broken.png"), "no picture").unwrap();
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 3);
    let page = home.path().join("out/report.html");
    let html = fs::read_to_string(&page).unwrap();
    assert!(!html.contains("http://") || html.matches("http://").count() == html.matches("http://www.w3.org").count());
    assert!(!html.contains("https://") && !html.contains("<img"), "nothing is fetched, no name is markup");
    keep(&browser, &page, "few");
    let seen = drive(&browser, &page);
    assert_eq!(seen["errors"], Value::Array(vec![]), "{seen}");
    assert_eq!(
        (&seen["ready"], &seen["title"], &seen["sorted"]),
        (&"yes".into(), &"wsi-run report".into(), &"descending".into())
    );
    assert_eq!(seen["requests"], Value::Array(vec![]));
    let rising = strings(&seen["rising"]);
    assert_eq!(rising.len(), 5);
    assert!(rising.is_sorted() && strings(&seen["at_first"]).is_sorted(), "{rising:?}");
    assert_eq!(strings(&seen["falling"]), rising.iter().rev().cloned().collect::<Vec<_>>());
    let nuclei: Vec<Option<u64>> = seen["nuclei"].as_array().unwrap().iter().map(Value::as_u64).collect();
    assert!(nuclei[..4].iter().all(Option::is_some) && nuclei[4].is_none(), "unknown is last: {nuclei:?}");
    assert!(nuclei[..4].is_sorted_by(|a, b| a >= b), "{nuclei:?}");
    assert_eq!(strings(&seen["found"]), ["broken"]);
    assert_eq!(seen["complete"].as_array().unwrap().len(), 4);
    assert_eq!(seen["shown"], "5 of 5");
    assert!(seen["details"].as_str().unwrap().contains("slides/"));
    let text = seen["text"].as_str().unwrap();
    assert!(text.contains("broken: ") && text.contains("onerror=document.title"), "{text}");
    assert_eq!((&seen["images"], &seen["drawn"]), (&4.into(), &4.into()));
    assert!(seen["plots"].as_u64().unwrap() >= 3, "{seen}");
    assert_eq!(seen["scripts"], 4, "two of the page, two of this test");
    // Made again, it says the same but for times; and it can be left out.
    let before = report_data(&home.path().join("out"));
    fs::remove_dir_all(home.path().join("out/.state/thumbs")).unwrap();
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 3);
    assert_eq!(report_data(&home.path().join("out")), before);
    fs::remove_file(&page).unwrap();
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q", "--set", "output.report=false"]), 3);
    assert!(!page.exists());
}

#[test]
fn a_report_of_a_thousand_slides_is_small_enough_and_opens() {
    let Some(browser) = browser() else { return };
    let home = tempfile::tempdir().unwrap();
    // Overviews of real runs, a few of them many times.
    let made = self::home(
        "slides: { synthetic: { count: 4, width_px: 3000, height_px: 2400, mpp: 0.5, seed: 5 } }\n\
         model: { hematoxylin: {} }\noutput: { dir: out, ome_zarr: false, parquet: false }\n",
    );
    assert_code(&wsi_run(made.path(), &["p.yaml", "-q"]), 0);
    fs::rename(made.path().join("out/overviews"), home.path().join("overviews")).unwrap();
    let mut dice = Dice(42);
    let records: Vec<(SlideRecord, Vec<Artifact>)> = (0..1000)
        .map(|i| {
            let instances = 2000 + dice.roll(1000) + dice.roll(9000);
            let area = 2e6 + dice.roll(9_000_000) as f64;
            let failed = i % 97 == 5;
            let record = SlideRecord {
                id: format!("case-{i:04}__slide-{}", dice.roll(900)),
                path: format!("/data/case-{i:04}/slide.svs"),
                status: Some(if failed { SlideStatus::Failed } else { SlideStatus::Complete }),
                error: failed.then(|| "slides: the file ends before its last tile".to_owned()),
                hint: failed.then(|| "copy the slide again".to_owned()),
                notes: (i % 31 == 3).then(|| "level 2 shows something else and was passed over".to_owned()),
                stain: Some(if i % 23 == 2 { "identity: one stain only" } else { "fitted" }.to_owned()),
                color_kind: Some("h_and_e".to_owned()),
                tiles_planned: 400,
                tiles_done: 400,
                tiles_failed: u64::from(i % 53 == 8),
                instances,
                tissue_area_um2: Some(area),
                computed_area_um2: Some(area * 1.05),
                classes: vec![
                    ("neoplastic".to_owned(), instances / 3, area * 0.05),
                    ("inflammatory".to_owned(), instances * 2 / 3, area * 0.08),
                ],
                seconds: vec![("pixels".to_owned(), 3.0), ("model".to_owned(), 20.0 + dice.roll(30) as f64)],
                wall_secs: Some(20.0 + dice.roll(100) as f64),
                ..SlideRecord::default()
            };
            let path = PathBuf::from(format!("overviews/synthetic-{:03}.png", i % 4));
            let overview = Artifact { path, bytes: 1, sha256: format!("{i:064}") };
            (record, if failed { vec![] } else { vec![overview] })
        })
        .collect();
    let slides: Vec<_> = records.iter().map(|(record, artifacts)| ReportSlide { record, artifacts }).collect();
    let class = |name: &str, color| ClassInfo { name: name.to_owned(), color };
    let run = ReportRun {
        model: "hover_net_fast".to_owned(),
        classes: vec![class("neoplastic", [214, 39, 40]), class("inflammatory", [44, 120, 200])],
        noun: "nuclei".to_owned(),
        started_at: Some("2026-11-21T01:00:00Z".to_owned()),
        finished_at: Some("2026-11-21T05:12:00Z".to_owned()),
        status: "slides_failed".to_owned(),
        hosts: vec!["node-1".to_owned()],
        pace: Some((15_120.0, 1000)),
        ..ReportRun::default()
    };
    let artifact = write_report(home.path(), &home.path().join("thumbs"), &run, &slides).unwrap();
    assert!((5_000_000..30_000_000).contains(&artifact.bytes), "{} bytes", artifact.bytes);
    let page = home.path().join("report.html");
    keep(&browser, &page, "thousand");
    let seen = drive(&browser, &page);
    assert_eq!(seen["errors"], Value::Array(vec![]));
    assert_eq!(strings(&seen["rising"]).len(), 1000);
    assert!(strings(&seen["rising"]).is_sorted());
    assert_eq!(seen["shown"], "1,000 of 1,000");
    // Only what is in view is decoded.
    let images = seen["images"].as_u64().unwrap();
    assert!((5..200).contains(&images) && seen["drawn"] == images, "{images} images, {} drawn", seen["drawn"]);
    println!("{} bytes; ready after {} ms, sorted in {} ms", artifact.bytes, seen["ready_ms"], seen["sort_ms"]);
}
