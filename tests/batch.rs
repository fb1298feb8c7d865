//! Batches: runs that are killed, stopped, repeated, shared and merged leave what one undisturbed run leaves.
//!
//! `WSI_RUN_CHAOS=100` disturbs as many times as it says, over more slides; without it, a handful. `WSI_RUN_PROGRAM` is
//! run instead of the program just built.

use crate::program::*;
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant, UNIX_EPOCH},
};

const NUCLEI: &str = "\
slides: { synthetic: { count: 2, width_px: 2600, height_px: 2000, mpp: 0.5, seed: 5 } }
model: { hematoxylin: {} }
tiling: { tile_px: 256 }
instances: { region_px: 256 }
output: { dir: out, geojson: { origin: full } }
";

const AREAS: &str = "\
slides: { synthetic: { count: 1, width_px: 2400, height_px: 2000, mpp: 0.5, seed: 6 } }
tiling: { input_mpp: 0.5, tile_px: 320 }
model: { stain_threshold: { stain: hematoxylin, threshold_od: 0.2 } }
instances: { region_px: 256 }
output: { dir: out, ome_zarr: { prob: true } }
";

fn chaos() -> Option<u64> {
    std::env::var("WSI_RUN_CHAOS").ok().map(|n| n.parse().unwrap())
}

/// Waits until a slide of `child` has finished regions in its journal.
fn until_journal(child: &mut Child, out: &Path, bytes: u64) {
    while journal_bytes(out) < bytes {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be disturbed");
        sleep(Duration::from_millis(2));
    }
}

const PICTURES: &str = "\
slides: { dir: slides, mpp: 0.5 }
model: { hematoxylin: {} }
output: { dir: out }
run: { settle_secs: 0 }
";

fn pictures(names: &[&str]) -> tempfile::TempDir {
    let home = home(PICTURES);
    fs::create_dir(home.path().join("slides")).unwrap();
    for (i, name) in names.iter().enumerate() {
        picture(&home.path().join("slides").join(name), i as u64 * 77 + 5);
    }
    home
}

fn goes_on_from_its_journal(yaml: &str, signal: Signal, bytes: u64) {
    let (quiet, home) = (home(yaml), home(yaml));
    assert_code(&wsi_run(quiet.path(), &["p.yaml", "-q"]), 0);
    let out = home.path().join("out");
    let arguments = ["p.yaml", "-q", "--set", "run.slides_in_flight=1", "--threads", "1"];
    let mut child = start(home.path(), &arguments);
    until_journal(&mut child, &out, bytes);
    send(&child, signal);
    child.wait().unwrap();
    assert!(journal_bytes(&out) >= bytes);
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    assert!(
        logged(&out, "goes on: ") == 1,
        "{:?}",
        files(&out.join("logs")).values().map(|l| text(l)).collect::<Vec<_>>()
    );
    assert_same("after the kill", &results(&quiet.path().join("out")), &results(&out));
    assert_eq!(rows(&quiet.path().join("out")), rows(&out));
    assert_eq!(report_data(&quiet.path().join("out")), report_data(&out));
    assert_code(&wsi_run(home.path(), &["verify", "out"]), 0);
}

#[test]
fn nuclei_of_a_killed_run_go_on_from_finished_regions() {
    goes_on_from_its_journal(NUCLEI, Signal::KILL, 10_000);
}

#[test]
fn classes_and_probabilities_of_a_killed_run_go_on_from_finished_regions() {
    goes_on_from_its_journal(AREAS, Signal::KILL, 400_000);
}

#[test]
fn time_that_is_up_keeps_what_slides_in_flight_have() {
    goes_on_from_its_journal(NUCLEI, Signal::USR1, 10_000);
}

#[test]
fn a_run_killed_again_and_again_ends_as_an_undisturbed_one() {
    let kills = chaos().unwrap_or(6);
    let (quiet, home) = (home(NUCLEI), home(NUCLEI));
    let began = Instant::now();
    assert_code(&wsi_run(quiet.path(), &["p.yaml", "-q"]), 0);
    let whole = began.elapsed().as_millis() as u64;
    let out = home.path().join("out");
    let expected = results(&quiet.path().join("out"));
    let (mut dice, mut done) = (Dice(0x5eed), 0);
    while done < kills {
        let mut child = start(home.path(), &["p.yaml", "-q"]);
        sleep(Duration::from_millis(dice.roll(whole)));
        if child.try_wait().unwrap().is_some() {
            // It came to its end: from the beginning again.
            assert_same(&format!("after {done} kills"), &expected, &results(&out));
            fs::remove_dir_all(&out).unwrap();
            continue;
        }
        send(&child, Signal::KILL);
        child.wait().unwrap();
        done += 1;
    }
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    assert_same("at last", &expected, &results(&out));
    assert_eq!(rows(&quiet.path().join("out")), rows(&out));
    assert_eq!(report_data(&quiet.path().join("out")), report_data(&out));
    assert!(files(&out.join(".state/claims")).is_empty());
}

/// Four processes over one output directory, killed, stopped and let go on at random.
#[test]
fn processes_that_share_a_directory_and_are_disturbed_leave_what_one_quiet_run_leaves() {
    let (disturbances, slides) = chaos().map_or((10, 5), |n| (n, 20));
    let yaml =
        NUCLEI.replace("count: 2", &format!("count: {slides}")) + "run: { lease_secs: 1, slides_in_flight: 1 }\n";
    let (quiet, home) = (home(&yaml), home(&yaml));
    assert_code(&wsi_run(quiet.path(), &["p.yaml", "-q"]), 0);
    let out = home.path().join("out");
    let expected = results(&quiet.path().join("out"));
    let claiming = || start(home.path(), &["p.yaml", "-q", "--claim", "--threads", "1"]);
    let (mut dice, mut done, mut rounds) = (Dice(0xc1a1_u64), [0; 3], 0);
    while done.iter().sum::<u64>() < disturbances || rounds == 0 {
        rounds += 1;
        let _ = fs::remove_dir_all(&out);
        let mut workers: Vec<Option<Child>> = (0..4).map(|_| Some(claiming())).collect();
        let mut stopped: Vec<(usize, Instant)> = vec![];
        while workers.iter().any(Option::is_some) {
            sleep(Duration::from_millis(20 + dice.roll(400)));
            stopped.retain(|(at, since)| {
                let goes_on = since.elapsed() > Duration::from_millis(1500);
                if let (true, Some(child)) = (goes_on, &workers[*at]) {
                    send(child, Signal::CONT);
                }
                !goes_on
            });
            for worker in &mut workers {
                if let Some(code) = worker.as_mut().and_then(|child| child.try_wait().unwrap()) {
                    // Whoever ends by itself has seen every slide done.
                    let again = code.code() != Some(0);
                    let said = || files(&out.join("logs")).into_values().map(|log| text(&log)).collect::<String>();
                    assert!(matches!(code.code(), Some(0 | 130) | None), "{code}: {}", said());
                    *worker = again.then(&claiming);
                }
            }
            let at = dice.roll(4) as usize;
            if done.iter().sum::<u64>() >= disturbances || stopped.iter().any(|(s, _)| *s == at) {
                continue;
            }
            let Some(child) = &workers[at] else { continue };
            let what = dice.roll(3) as usize;
            send(child, [Signal::KILL, Signal::TERM, Signal::STOP][what]);
            done[what] += 1;
            if what == 2 {
                stopped.push((at, Instant::now()));
            }
        }
        assert_same(&format!("{done:?} kills, terms, stops"), &expected, &results(&out));
        assert_eq!(rows(&quiet.path().join("out")), rows(&out));
        assert_eq!(report_data(&quiet.path().join("out")), report_data(&out));
        assert!(files(&out.join(".state/claims")).is_empty());
    }
    println!("{done:?} kills, terms, stops in {rounds} batches");
}

#[test]
fn shards_together_are_the_whole_and_merge_says_what_is_missing() {
    let yaml = NUCLEI.replace("count: 2", "count: 5").replace("2600", "1600").replace("2000", "1200");
    let (quiet, home) = (home(&yaml), home(&yaml));
    assert_code(&wsi_run(quiet.path(), &["p.yaml", "-q"]), 0);
    for shard in ["1/3", "3/3"] {
        assert_code(&wsi_run(home.path(), &["p.yaml", "-q", "--shard", shard]), 0);
    }
    let early = wsi_run(home.path(), &["merge", "out"]);
    assert_code(&early, 5);
    assert!(text(&early.stdout).contains("no manifest of shard 2/3"), "{}", text(&early.stdout));
    assert_code(&wsi_run(home.path(), &["status", "out"]), 5);
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q", "--shard", "2/3"]), 0);
    assert_code(&wsi_run(home.path(), &["merge", "out"]), 0);
    assert_code(&wsi_run(home.path(), &["status", "out"]), 0);
    let out = home.path().join("out");
    assert_same("merged", &results(&quiet.path().join("out")), &results(&out));
    assert_eq!(rows(&quiet.path().join("out")), rows(&out));
    assert_eq!(report_data(&quiet.path().join("out")), report_data(&out));
    assert_code(&wsi_run(home.path(), &["verify", "out"]), 0);
    assert_eq!(logged(&out, "started on"), 5);
    // A shard of another list is not one of this batch.
    let other = ["p.yaml", "-q", "--shard", "2/3", "--set", "slides.synthetic.count=4"];
    assert_code(&wsi_run(home.path(), &other), 0);
    let merged = wsi_run(home.path(), &["merge", "out"]);
    assert_code(&merged, 5);
    assert!(text(&merged.stdout).contains("slide list"), "{}", text(&merged.stdout));
}

#[test]
fn a_second_run_does_nothing_and_takes_less_than_50_ms_per_slide() {
    let home = home(
        "slides: { synthetic: { count: 40, width_px: 256, height_px: 256, mpp: 0.5, seed: 5 } }\n\
                     model: { hematoxylin: {} }\noutput: { dir: out }\n",
    );
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    let written = |dir: &Path| -> Vec<(PathBuf, u128)> {
        let at = |name: &String| fs::metadata(dir.join(name)).unwrap().modified().unwrap();
        results(dir).keys().map(|n| (n.into(), at(n).duration_since(UNIX_EPOCH).unwrap().as_nanos())).collect()
    };
    let out = home.path().join("out");
    let before = written(&out);
    let began = Instant::now();
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    let millis = began.elapsed().as_millis() / 40;
    assert!(millis < 50, "{millis} ms per slide");
    assert_eq!(written(&out), before);
    let run: serde_json::Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!((&run["counts"]["unchanged"], &run["counts"]["slides"]), (&40.into(), &40.into()));
    // Something that is gone is made again, alone.
    fs::remove_file(out.join("overviews/synthetic-007.png")).unwrap();
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    assert!(out.join("overviews/synthetic-007.png").exists());
    assert_eq!(logged(&out, "started on"), 41);
}

/// Memory (kB) and open files of a process.
fn held(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss = rss.trim().strip_suffix(" kB")?.parse().ok()?;
    Some((rss, fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64))
}

fn median<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values[values.len() / 2]
}

#[test]
fn memory_open_files_and_pace_are_those_of_the_beginning_after_many_slides() {
    const SLIDES: usize = 160;
    let home = home(&format!(
        "slides: {{ synthetic: {{ count: {SLIDES}, width_px: 256, height_px: 256, mpp: 0.5, seed: 5 }} }}\n\
         model: hematoxylin\noutput: {{ dir: out }}\nrun: {{ threads: 2 }}\n",
    ));
    let mut child = command(home.path(), &["p.yaml", "--log-json"]).stderr(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let mut ends = vec![];
    for line in lines {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if let ("slide_finished", Some(held)) = (event["event"].as_str().unwrap(), held(child.id())) {
            ends.push((event["unix_secs"].as_f64().unwrap(), held));
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(ends.len() > SLIDES * 9 / 10, "{}", ends.len());
    // The first slides fill pools and caches.
    let quarter = ends.len() / 4;
    let (early, late) = (&ends[quarter..2 * quarter], &ends[3 * quarter..]);
    let of = |part: &[(f64, (u64, u64))]| {
        let pace = part.windows(2).map(|pair| pair[1].0 - pair[0].0);
        (median(part.iter().map(|e| e.1.0)), median(part.iter().map(|e| e.1.1)), median(pace))
    };
    let ((kb, files, secs), (late_kb, late_files, late_secs)) = (of(early), of(late));
    println!("{kb} kB, {files} files, {secs:.4} s; at last {late_kb} kB, {late_files} files, {late_secs:.4} s");
    assert!(late_kb < kb + kb / 8 + 8192, "{kb} kB, at last {late_kb}");
    assert!(late_files <= files + 4, "{files} open files, at last {late_files}");
    assert!(late_secs < 2.0 * secs + 0.02, "{secs} s from slide to slide, at last {late_secs}");
}

#[test]
fn only_new_and_changed_slides_are_run_and_all_when_settings_change() {
    let home = pictures(&["a.png", "b.png"]);
    let (out, slides) = (home.path().join("out"), home.path().join("slides"));
    let begun = |id: &str| {
        text(&fs::read(out.join("logs").join(format!("{id}.log"))).unwrap_or_default()).matches("started").count()
    };
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    picture(&slides.join("c.png"), 99);
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    assert_eq!([begun("a"), begun("b"), begun("c")], [1, 1, 1]);
    picture(&slides.join("b.png"), 1234);
    let before = results(&out);
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    assert_eq!([begun("a"), begun("b"), begun("c")], [1, 2, 1]);
    assert!(results(&out)["nuclei/b.parquet"] != before["nuclei/b.parquet"]);
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q", "--threads", "3"]), 0);
    assert_eq!([begun("a"), begun("b"), begun("c")], [1, 2, 1]);
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q", "--set", "output.geojson=true"]), 0);
    assert_eq!([begun("a"), begun("b"), begun("c")], [2, 3, 2]);
    assert_eq!(rows(&out).len(), 3);
}

#[test]
fn a_slide_that_is_still_being_copied_is_left_for_later() {
    let home = pictures(&["a.png"]);
    let (out, slides) = (home.path().join("out"), home.path().join("slides"));
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(slides.join("a.png")).unwrap().set_modified(old).unwrap();
    // One that is new and then rests is waited for; one that goes on growing is not.
    picture(&slides.join("resting.png"), 3);
    picture(&slides.join("growing.png"), 4);
    let growing = fs::File::options().append(true).open(slides.join("growing.png")).unwrap();
    let mut child = start(home.path(), &["p.yaml", "-q", "--set", "run.settle_secs=2"]);
    let code = loop {
        if let Some(code) = child.try_wait().unwrap() {
            break code;
        }
        std::io::Write::write_all(&mut &growing, b"x").unwrap();
        sleep(Duration::from_millis(50));
    };
    assert_eq!(code.code(), Some(5));
    let rows = rows(&out);
    let status = |id: &str| rows[&format!("id \"{id}\"")].iter().find(|c| c.starts_with("status")).unwrap().clone();
    assert_eq!(status("a"), "status \"complete\"");
    assert_eq!(status("resting"), "status \"complete\"");
    assert_eq!(status("growing"), "status \"deferred\"");
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    assert_eq!(logged(&out, "started on"), 3);
}

#[test]
fn two_runs_of_one_directory_are_kept_apart() {
    let home = home(NUCLEI);
    let mut child = start(home.path(), &["p.yaml", "-q", "--threads", "1"]);
    until_journal(&mut child, &home.path().join("out"), 1);
    for second in [&["p.yaml", "-q"][..], &["p.yaml", "-q", "--claim"]] {
        let output = wsi_run(home.path(), second);
        assert_code(&output, 6);
        assert!(text(&output.stderr).contains(&format!("process {}", child.id())), "{}", text(&output.stderr));
    }
    send(&child, Signal::KILL);
    child.wait().unwrap();
    // The lock of a dead process stops nobody.
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
}

#[test]
fn failed_slides_are_tried_again_by_retry_and_max_failures_ends_a_run() {
    let home = pictures(&["a.png"]);
    let (out, slides) = (home.path().join("out"), home.path().join("slides"));
    for name in ["x.png", "y.png", "z.png"] {
        fs::write(slides.join(name), "no picture").unwrap();
    }
    let few = ["p.yaml", "-q", "--max-failures", "2", "--set", "run.slides_in_flight=1"];
    assert_code(&wsi_run(home.path(), &few), 3);
    let run = || -> serde_json::Value { serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap() };
    assert_eq!((&run()["counts"]["failed"], &run()["counts"]["not_started"]), (&2.into(), &1.into()));
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 3);
    assert_eq!((&run()["counts"]["failed"], &run()["counts"]["unchanged"]), (&3.into(), &1.into()));
    // Those who share leave failed slides alone: they would fail once per process.
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q", "--claim"]), 3);
    assert_eq!(run()["counts"]["unchanged"], 4);
    picture(&slides.join("x.png"), 1);
    picture(&slides.join("y.png"), 2);
    picture(&slides.join("z.png"), 3);
    let begun = logged(&out, "started on");
    let elsewhere = tempfile::tempdir().unwrap();
    let retry = wsi_run(elsewhere.path(), &["retry", &out.to_string_lossy(), "--no-progress", "-q"]);
    assert_code(&retry, 0);
    assert_eq!(logged(&out, "started on"), begun + 3);
    assert_eq!(rows(&out).len(), 4);
    assert_code(&wsi_run(home.path(), &["status", "out"]), 0);
}

#[test]
fn a_time_limit_ends_a_run_and_the_next_goes_on() {
    let yaml = NUCLEI.replace("2600", "16000").replace("2000", "12000");
    let home = home(&yaml);
    let began = Instant::now();
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q", "--threads", "1", "--time-limit", "4s"]), 5);
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(journal_bytes(&home.path().join("out")) > 0);
    assert_code(&wsi_run(home.path(), &["status", "out"]), 5);
}

#[test]
fn a_full_disk_ends_the_run_clearly_and_it_goes_on_when_there_is_room() {
    let (quiet, home) = (home(NUCLEI), home(NUCLEI));
    assert_code(&wsi_run(quiet.path(), &["p.yaml", "-q"]), 0);
    let out = home.path().join("out");
    let Some(_disk) = SmallDisk::mount(&out, "16m") else {
        println!("skipped: a small disk cannot be mounted here");
        return;
    };
    let running = command(home.path(), &["p.yaml", "-q", "--threads", "1", "--set", "run.slides_in_flight=1"])
        .stderr(Stdio::piped())
        .spawn();
    let mut child = running.unwrap();
    until_journal(&mut child, &out, 1000);
    let mut filler = fs::File::create(out.join("filler")).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while std::io::Write::write_all(&mut filler, &vec![0; size]).is_ok() {}
    }
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 1);
    let said = text(&output.stderr);
    assert!(said.contains("No space left") && said.contains("goes on where it stopped"), "{said}");
    drop(filler);
    fs::remove_file(out.join("filler")).unwrap();
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q"]), 0);
    assert_same("with room", &results(&quiet.path().join("out")), &results(&out));
    // Too little for another slide is said before it is begun.
    let filler = fs::File::create(out.join("filler")).unwrap();
    let stat = rustix::fs::statvfs(&out).unwrap();
    let free = (stat.f_bavail * stat.f_frsize) as usize;
    std::io::Write::write_all(&mut &filler, &vec![1; free - (1 << 20)]).unwrap();
    let output = wsi_run(home.path(), &["p.yaml", "-q", "--set", "output.geojson=false"]);
    assert_code(&output, 1);
    assert!(text(&output.stderr).contains("disk is full"), "{}", text(&output.stderr));
}

#[test]
fn a_dry_submit_prints_scripts_that_name_the_total() {
    let home = home(&NUCLEI.replace("2600", "1600").replace("2000", "1200"));
    let shown = wsi_run(home.path(), &["submit", "p.yaml", "--tasks", "16", "--dry-run", "--sbatch=--partition=long"]);
    assert_code(&shown, 0);
    let said = text(&shown.stdout);
    for part in
        ["--array=1-16", "--requeue", "--signal=USR1@", "\"$SLURM_ARRAY_TASK_ID/16\"", "--partition=long", " merge "]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
    // Time and disk are the plan's, too.
    assert!(said.contains("#SBATCH --time=30\n") && said.contains("the largest task would take about"), "{said}");
    assert!(said.contains("# 2 slides\n") && said.contains("# results take about"), "{said}");
    assert!(!home.path().join("out").exists());
}

/// The rounds that a watching run has told of.
fn rounds(told: &Path) -> Vec<serde_json::Value> {
    text(&fs::read(told).unwrap()).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_watched_directory_is_run_as_slides_come_until_a_signal_ends_it() {
    let home = pictures(&[]);
    let (out, slides, told) = (home.path().join("out"), home.path().join("incoming"), home.path().join("told"));
    fs::create_dir(&slides).unwrap();
    let arguments = ["p.yaml", "-q", "--watch", "incoming", "--every", "1s"];
    let mut child = command(home.path(), &arguments)
        .stdout(fs::File::create(&told).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut until = |wanted: usize| {
        while rounds(&told).len() < wanted {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            sleep(Duration::from_millis(20));
        }
        rounds(&told)
    };
    sleep(Duration::from_millis(300));
    picture(&slides.join("a.png"), 5);
    let first = until(1)[0].clone();
    assert_eq!((&first["round"], &first["exit_code"], &first["counts"]["complete"]), (&1.into(), &0.into(), &1.into()));
    // Between rounds the output directory is still held.
    assert_code(&wsi_run(home.path(), &["p.yaml", "-q", "--set", "slides.dir=incoming"]), 6);
    fs::write(slides.join("x.png"), "no picture").unwrap();
    picture(&slides.join("b.png"), 6);
    let last = loop {
        let told = until(2).last().unwrap().clone();
        if told["counts"]["slides"] == 3 {
            break told;
        }
        sleep(Duration::from_millis(20));
    };
    assert_eq!((&last["exit_code"], &last["counts"]["failed"]), (&3.into(), &1.into()));
    assert_eq!(logged(&out, "started on").clamp(3, 4), logged(&out, "started on"), "what is done is not done again");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(files(&out.join(".state/locks")).is_empty());
    assert_eq!(rows(&out).len(), 3);
}
