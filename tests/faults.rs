//! Faults below the writers: every call that writes fails once, one at a time, and so do disks and mounts. Each ends
//! resumable and clear, none leaves a wrong file under a final name.
//!
//! Calls are made to fail by a preloaded C library, `tests/faults/shim.c`. Each call gets one of its faults in turn;
//! `WSI_RUN_FAULTS=all` gives each all of them. `WSI_RUN_PROGRAM` is run instead of the program just built.

use crate::program::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

const EVERYTHING: &str = "\
slides: { synthetic: { count: 1, width_px: 512, height_px: 512, mpp: 0.5, seed: 5 } }
tissue: { everything: {} }
model: { hematoxylin: {} }
output: { dir: out, geojson: true, ome_zarr: { prob: true, chunk_px: 256 }, overview: { max_px: 256 } }
";

const LONG: &str = "\
slides: { synthetic: { count: 3, width_px: 2600, height_px: 2000, mpp: 0.5, seed: 5 } }
model: { hematoxylin: {} }
tiling: { tile_px: 256 }
instances: { region_px: 256 }
output: { dir: out }
run: { threads: 1, slides_in_flight: 1, lease_secs: 1 }
";

const EIO: i32 = 5;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;
/// A write that takes a part of what it is given.
const SHORT: i32 = 0;

/// The library that makes calls fail; none without a C compiler.
fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fault-shim-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        cc.output().is_ok_and(|o| o.status.success()).then_some(library)
    };
    let shim = SHIM.get_or_init(build).as_deref();
    if shim.is_none() {
        println!("skipped: no C compiler");
    }
    shim
}

/// One call that is made to fail.
#[derive(Debug, Clone)]
struct Fault {
    call: String,
    nth: usize,
    errno: i32,
    stays: bool,
}

fn with_shim(dir: &Path, below: &str, fault: Option<&Fault>, log: Option<&Path>) -> Command {
    let mut command = command(dir, &["p.yaml", "--no-progress", "--threads", "2"]);
    command.env("LD_PRELOAD", shim().unwrap()).env("FAULT_DIR", dir.canonicalize().unwrap().join(below));
    if let Some(log) = log {
        command.env("FAULT_LOG", log);
    }
    if let Some(Fault { call, nth, errno, stays }) = fault {
        command.env("FAULT_CALL", call).env("FAULT_NTH", nth.to_string()).env("FAULT_ERRNO", errno.to_string());
        if *stays {
            command.env("FAULT_STAYS", "1");
        }
    }
    command
}

/// Every call of an undisturbed run, and how often it occurs.
fn calls(home: &Path, below: &str, reads: bool) -> BTreeMap<String, usize> {
    let log = home.join("calls.log");
    let mut command = with_shim(home, below, None, Some(&log));
    if reads {
        command.env("FAULT_READS", "1");
    }
    assert_code(&command.output().unwrap(), 0);
    let mut calls = BTreeMap::new();
    for line in text(&fs::read(&log).unwrap()).lines() {
        *calls.entry(line.to_owned()).or_insert(0) += 1;
    }
    fs::remove_file(log).unwrap();
    calls
}

/// What may happen to a call.
fn errors_of(call: &str) -> &'static [i32] {
    match call.split(' ').next().unwrap() {
        "write" | "copy" => &[ENOSPC, SHORT, EIO],
        "fsync" | "fdatasync" => &[EIO],
        "unlink" => &[EIO, EACCES],
        _ => &[ENOSPC, EIO, EACCES],
    }
}

fn assert_message(output: &Output, fault: &Fault) {
    let said = text(&output.stderr);
    let names = ["out", "slide"].iter().any(|name| said.contains(name));
    assert!(said.contains("error") || said.contains("failed"), "{fault:?}: {said}");
    assert!(names && said.contains("hint: "), "{fault:?}: {said}");
    assert!(!said.contains("panicked"), "{fault:?}: {said}");
}

/// A run with the fault, then a plain one.
fn suffer(fault: &Fault, expected: &BTreeMap<String, Vec<u8>>, expected_rows: &BTreeMap<String, Vec<String>>) {
    let home = home(EVERYTHING);
    let out = home.path().join("out");
    let output = with_shim(home.path(), "out", Some(fault), None).output().unwrap();
    let found = results(&out);
    for (name, bytes) in &found {
        if !name.starts_with(".partial") {
            assert!(expected.get(name) == Some(bytes), "{fault:?}: {name} is wrong under its final name");
        }
    }
    match output.status.code() {
        // Nothing was lost that a user would miss.
        Some(0) => assert_same(&format!("{fault:?}"), expected, &found),
        Some(1) => assert_message(&output, fault),
        // What is the slide's alone is told in its row.
        Some(3) if fault.errno == EACCES => assert_message(&output, fault),
        code => panic!("{fault:?}: exit code {code:?}: {}", text(&output.stderr)),
    }
    let again = wsi_run(home.path(), &["p.yaml", "--no-progress"]);
    assert_eq!(again.status.code(), Some(0), "after {fault:?}: {}", text(&again.stderr));
    assert_same(&format!("after {fault:?}"), expected, &results(&out));
    assert_eq!(expected_rows, &rows(&out), "after {fault:?}");
}

/// Runs `work` over all of `items` on some threads.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

#[test]
fn every_write_of_a_run_may_fail_once_and_the_next_run_makes_it_whole() {
    if shim().is_none() {
        return;
    }
    let quiet = home(EVERYTHING);
    let calls = calls(quiet.path(), "out", false);
    let kinds: BTreeSet<&str> = calls.keys().filter_map(|call| call.split(' ').next()).collect();
    assert!(["write", "create", "mkdir", "rename", "fsync"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let out = quiet.path().join("out");
    let (expected, expected_rows) = (results(&out), rows(&out));
    let all = std::env::var_os("WSI_RUN_FAULTS").is_some();
    let mut faults: Vec<Fault> = vec![];
    for (turn, (call, nth)) in calls.iter().flat_map(|(call, &n)| (0..n).map(move |nth| (call, nth))).enumerate() {
        let errors = errors_of(call);
        let errors = if all { errors } else { &errors[turn % errors.len()..][..1] };
        faults.extend(errors.iter().map(|&errno| Fault { call: call.clone(), nth, errno, stays: false }));
    }
    println!("{} faults at {} calls", faults.len(), calls.values().sum::<usize>());
    in_parallel(&faults, |fault| suffer(fault, &expected, &expected_rows));
}

#[test]
fn a_disk_that_fills_up_at_any_call_and_stays_full_is_said_once_and_the_next_run_goes_on() {
    if shim().is_none() {
        return;
    }
    let quiet = home(EVERYTHING);
    let calls = calls(quiet.path(), "out", false);
    let out = quiet.path().join("out");
    let (expected, expected_rows) = (results(&out), rows(&out));
    let step = if std::env::var_os("WSI_RUN_FAULTS").is_some() { 1 } else { 6 };
    let needs_room = |call: &&String| ["write", "create", "mkdir"].contains(&call.split(' ').next().unwrap());
    let fault = |call: &String| Fault { call: call.clone(), nth: 0, errno: ENOSPC, stays: true };
    let faults: Vec<Fault> = calls.keys().filter(needs_room).step_by(step).map(fault).collect();
    println!("{} faults that stay", faults.len());
    in_parallel(&faults, |fault| suffer(fault, &expected, &expected_rows));
}

#[test]
fn a_slide_that_cannot_be_read_fails_alone_and_is_done_when_it_can() {
    if shim().is_none() {
        return;
    }
    let yaml = "slides: { dir: slides, mpp: 0.5 }\nmodel: { hematoxylin: {} }\noutput: { dir: out }\n\
                run: { settle_secs: 0 }\n";
    let made = || {
        let home = home(yaml);
        fs::create_dir(home.path().join("slides")).unwrap();
        picture(&home.path().join("slides/a.png"), 3);
        picture(&home.path().join("slides/b.png"), 4);
        home
    };
    let quiet = made();
    let calls = calls(quiet.path(), "slides/a.png", true);
    let (expected, expected_rows) = (results(&quiet.path().join("out")), rows(&quiet.path().join("out")));
    let of_reads = calls.iter().filter(|(call, _)| call.starts_with("read"));
    let faults: Vec<Fault> = of_reads
        .flat_map(|(call, &n)| {
            (0..n).map(move |nth| Fault {
                call: call.clone(),
                nth,
                errno: if nth % 3 == 2 { SHORT } else { EIO },
                stays: false,
            })
        })
        .collect();
    assert!(faults.len() > 3, "{calls:?}");
    in_parallel(&faults, |fault| {
        let home = made();
        let out = home.path().join("out");
        let output =
            with_shim(home.path(), "slides/a.png", Some(fault), None).env("FAULT_READS", "1").output().unwrap();
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 3)), "{fault:?}: {code:?} {}", text(&output.stderr));
        let found = results(&out);
        assert!(found.iter().all(|(name, bytes)| &expected[name] == bytes), "{fault:?}: a wrong result");
        assert!(found.contains_key("nuclei/b.parquet"), "{fault:?}: the other slide is not to blame");
        if code == Some(3) {
            let said = text(&output.stderr);
            assert!(said.contains("a: failed") && said.contains("hint"), "{fault:?}: {said}");
        }
        assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
        assert_same(&format!("after {fault:?}"), &expected, &results(&out));
        assert_eq!(expected_rows, rows(&out), "after {fault:?}");
    });
}

/// Results and rows.
type Left = (BTreeMap<String, Vec<u8>>, BTreeMap<String, Vec<String>>);

/// What an undisturbed run of `LONG` leaves.
fn undisturbed() -> &'static Left {
    static QUIET: OnceLock<Left> = OnceLock::new();
    QUIET.get_or_init(|| {
        let quiet = home(LONG);
        assert_code(&wsi_run(quiet.path(), &["p.yaml", "-q"]), 0);
        let out = quiet.path().join("out");
        (results(&out), rows(&out))
    })
}

/// Starts a long run and waits until a slide is under way.
fn under_way(home: &Path) -> std::process::Child {
    let out = home.join("out");
    let mut child =
        command(home, &["p.yaml", "--no-progress"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while journal_bytes(&out) < 1000 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be disturbed");
        sleep(Duration::from_millis(2));
    }
    child
}

fn assert_goes_on(home: &Path) {
    assert_code(&wsi_run(home, &["p.yaml", "-q"]), 0);
    assert_same("at last", &undisturbed().0, &results(&home.join("out")));
    assert_eq!(undisturbed().1, rows(&home.join("out")));
}

#[test]
fn unfinished_results_that_are_removed_once_are_made_again() {
    let home = home(LONG);
    let child = under_way(home.path());
    fs::remove_dir_all(home.path().join("out/.partial")).unwrap_or_default();
    assert_code(&child.wait_with_output().unwrap(), 0);
    assert_goes_on(home.path());
}

#[test]
fn a_run_whose_unfinished_results_are_removed_again_and_again_ends_and_says_so() {
    let home = home(LONG);
    let mut child = under_way(home.path());
    while child.try_wait().unwrap().is_none() {
        let _ = fs::remove_dir_all(home.path().join("out/.partial"));
        sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 1);
    let said = text(&output.stderr);
    assert!(said.contains("taken away") && said.contains(".partial") && said.contains("hint: "), "{said}");
    assert_goes_on(home.path());
}

#[test]
fn a_run_whose_output_directory_is_moved_away_ends_and_goes_on_when_it_is_back() {
    let home = home(LONG);
    let (out, elsewhere) = (home.path().join("out"), home.path().join("elsewhere"));
    let child = under_way(home.path());
    fs::rename(&out, &elsewhere).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 1);
    let said = text(&output.stderr);
    assert!(said.contains("out") && said.contains("goes on where it stopped"), "{said}");
    // What the last moments left where the directory was is no result.
    assert!(results(&out).is_empty(), "{:?}", results(&out).keys());
    let _ = fs::remove_dir_all(&out);
    fs::rename(&elsewhere, &out).unwrap();
    assert_goes_on(home.path());
}

#[test]
fn a_mount_that_vanishes_ends_the_run_and_nothing_is_written_in_the_hole() {
    let home = home(LONG);
    let out = home.path().join("out");
    let Some(disk) = SmallDisk::mount(&out, "64m") else {
        println!("skipped: a disk cannot be mounted here");
        return;
    };
    let child = under_way(home.path());
    assert!(Command::new("umount").arg("-l").arg(&disk.0).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 1);
    let said = text(&output.stderr);
    assert!(said.contains("goes on where it stopped"), "{said}");
    assert!(results(&out).is_empty() && !out.join("run.json").exists(), "{:?}", files(&out).keys());
    assert_goes_on(home.path());
}

#[test]
fn a_directory_that_may_not_be_written_is_said_before_any_slide() {
    let home = home(EVERYTHING);
    let out = home.path().join("out");
    let Some(disk) = SmallDisk::mount(&out, "1m") else {
        println!("skipped: a disk cannot be mounted here");
        return;
    };
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap().success());
    let output = wsi_run(home.path(), &["p.yaml", "--no-progress"]);
    assert_code(&output, 1);
    let said = text(&output.stderr);
    assert!(said.contains("Read-only file system") && said.contains("out") && said.contains("hint: "), "{said}");
}

/// Processes that see neither each other's processes nor each other's time, as on other hosts: only leases tell them
/// that an owner is gone.
#[test]
fn hosts_with_other_clocks_share_a_directory_and_take_over_from_one_that_dies() {
    if shim().is_none() {
        return;
    }
    let apart = ["--uts", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !Command::new("unshare").args(apart).arg("true").status().is_ok_and(|s| s.success()) {
        println!("skipped: processes cannot be set apart here");
        return;
    }
    let yaml = LONG.replace("count: 3", "count: 6");
    let (quiet, home) = (home(&yaml), home(&yaml));
    assert_code(&wsi_run(quiet.path(), &["p.yaml", "-q"]), 0);
    let out = home.path().join("out");
    let host = |name: &str, skew: &str| {
        let script = "hostname \"$0\"; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(apart).args(["sh", "-c", script, name, env!("CARGO_BIN_EXE_wsi-run"), "p.yaml", "-q", "--claim"]);
        command.current_dir(home.path()).env("LD_PRELOAD", shim().unwrap()).env("FAULT_CLOCK", skew);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (mut dies, mut ahead, mut behind) = (host("one", "0"), host("two", "3600"), host("three", "-3600"));
    while logged(&out, "started on one") == 0 || journal_bytes(&out) < 1000 {
        sleep(Duration::from_millis(5));
    }
    dies.kill().unwrap();
    dies.wait().unwrap();
    assert_eq!((ahead.wait().unwrap().code(), behind.wait().unwrap().code()), (Some(0), Some(0)));
    assert_same("shared by hosts", &results(&quiet.path().join("out")), &results(&out));
    assert_eq!(rows(&quiet.path().join("out")), rows(&out));
    assert!(files(&out.join(".state/claims")).is_empty());
    // Each slide ended once; one or two were begun by the host that died.
    assert_eq!(logged(&out, "complete, "), 6);
    let begun = logged(&out, "started on");
    assert!((6..=8).contains(&begun), "{begun}");
}
