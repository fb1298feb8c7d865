//! A batch on a real Slurm cluster of three nodes, one of which dies in the middle.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread::sleep,
    time::{Duration, Instant},
};

const SLIDES: usize = 12;
const YAML: &str = "\
slides: { synthetic: { count: 12, width_px: 5000, height_px: 4000, mpp: 0.5, seed: 3 } }
model: { hematoxylin: {} }
tiling: { tile_px: 256 }
instances: { region_px: 256 }
output: { dir: out }
run: { slides_in_flight: 1, lease_secs: 5 }
";

/// The cluster; stopped when dropped.
struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    fn script(&self, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm/cluster.sh");
        // Sockets want short paths; daemons must not hold our pipes open.
        let log = fs::File::create(self.dir.path().join(format!("{}.log", arguments[0]))).unwrap();
        Command::new(script)
            .arg(self.dir.path())
            .args(arguments)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .output()
            .unwrap()
    }

    /// A running cluster; none where Slurm is not installed or cannot run.
    fn start() -> Option<Self> {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let is_there = |name: &str| path.split(':').any(|dir| Path::new(dir).join(name).exists());
        if let Some(missing) = ["slurmctld", "slurmd", "sbatch", "srun", "munged"].iter().find(|name| !is_there(name)) {
            println!("skipped: no `{missing}` (apt-get install slurmctld slurmd slurm-client munge)");
            return None;
        }
        let cluster = Self { dir: tempfile::Builder::new().prefix("slurm").tempdir_in("/tmp").unwrap() };
        let started = cluster.script(&["start"]);
        let log = fs::read_to_string(cluster.dir.path().join("start.log")).unwrap_or_default();
        assert!(started.status.success(), "the cluster did not start: {log}");
        Some(cluster)
    }

    fn run(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str], dir: &Path) -> Output {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(dir).env("SLURM_CONF", self.dir.path().join("slurm.conf"));
        command.output().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script(&["stop"]);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn results(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = ["masks", "nuclei", "overviews"].map(|name| dir.join(name)).into();
    while let Some(at) = open.pop() {
        for path in fs::read_dir(&at).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Stops a process of the batch that has a slide under way, so that it still has it when its node dies; its job and the
/// slide. None when the slide was ended meanwhile: what is told of a process is some moments old.
fn hold(worker: &serde_json::Value, out: &Path) -> Option<(String, String)> {
    let (job, pid) = (worker["job"].as_str()?, Pid::from_raw(worker["owner"]["pid"].as_i64()? as i32)?);
    let is_begun = |slide: &&serde_json::Value| slide["done"].as_u64().unwrap_or(0) > 0;
    let slide = worker["slides"].as_array()?.iter().find(is_begun)?["id"].as_str()?;
    kill_process(pid, Signal::STOP).ok()?;
    // Every thread of it, at once or a moment later.
    sleep(Duration::from_millis(50));
    if out.join(".state/slides").join(format!("{slide}.json")).exists() {
        let _ = kill_process(pid, Signal::CONT);
        return None;
    }
    Some((job.to_owned(), slide.to_owned()))
}

#[test]
fn a_batch_whose_node_dies_ends_complete_with_every_slide_done_once() {
    let Some(cluster) = Cluster::start() else { return };
    let program = env!("CARGO_BIN_EXE_wsi-run");
    let home = tempfile::tempdir().unwrap();
    let (quiet, out) = (home.path().join("quiet"), home.path().join("out"));
    fs::write(home.path().join("p.yaml"), YAML).unwrap();
    let submit = ["submit", "p.yaml", "--tasks", "6", "--cpus", "1", "--mem", "700M", "--time", "20m"];
    let submitted = cluster.run(program, &submit, home.path());
    assert!(submitted.status.success(), "{}{}", text(&submitted.stdout), text(&submitted.stderr));
    // A node dies while a slide of it is under way.
    let status = || -> serde_json::Value {
        let said = cluster.run(program, &["status", "out", "--json"], home.path());
        serde_json::from_slice(&said.stdout).unwrap_or_default()
    };
    let began = Instant::now();
    let (job, slide) = loop {
        if let Some(held) = status()["running"].as_array().into_iter().flatten().find_map(|w| hold(w, &out)) {
            break held;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{}", status());
        sleep(Duration::from_millis(50));
    };
    let tasks = text(&cluster.run("squeue", &["--noheader", "--array", "--format=%F_%K %N"], home.path()).stdout);
    let node = tasks.lines().find_map(|line| line.strip_prefix(&format!("{job} "))).map(str::trim);
    let node = node.unwrap_or_else(|| panic!("no node has task {job}: {tasks}"));
    assert!(cluster.script(&["kill-node", node]).status.success());
    // The merge runs after all tasks, whatever became of them.
    let merged = out.join("slurm/merge.log");
    let is_merged = || fs::read_to_string(&merged).is_ok_and(|log| log.contains("slides of"));
    while !is_merged() {
        let queue = text(&cluster.run("squeue", &[], home.path()).stdout);
        assert!(began.elapsed() < Duration::from_secs(400), "{}\n{queue}", status());
        sleep(Duration::from_millis(500));
    }
    let said = fs::read_to_string(&merged).unwrap();
    assert!(said.contains("12 slides of 6 shards: 0 failed or lost tiles, 0 not done"), "{said}");
    let logs = fs::read_dir(out.join("logs")).unwrap().map(|e| fs::read_to_string(e.unwrap().path()).unwrap());
    let logs: Vec<String> = logs.collect();
    let completed: Vec<usize> = logs.iter().map(|log| log.matches("complete, ").count()).collect();
    assert_eq!(completed, [1; SLIDES], "{logs:?}");
    let begun: usize = logs.iter().map(|log| log.matches("started on").count()).sum();
    assert!(begun > SLIDES, "no task was interrupted: {logs:?}");
    let log = fs::read_to_string(out.join("logs").join(format!("{slide}.log"))).unwrap();
    assert!(log.matches("started on").count() > 1, "the slide that its node died with was not begun again: {log}");
    assert!(cluster.run(program, &["verify", "out"], home.path()).status.success());
    let alone = cluster.run(program, &["p.yaml", "-q", "--output", "quiet"], home.path());
    assert!(alone.status.success(), "{}", text(&alone.stderr));
    assert!(results(&quiet) == results(&out), "the batch left other bytes than one quiet run");
}
