//! The program under test, and what it leaves.

#![allow(dead_code, reason = "each test uses a part")]

use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// Numbers that look random; the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

pub fn command(dir: &Path, arguments: &[&str]) -> Command {
    let other = std::env::var_os("WSI_RUN_PROGRAM");
    let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_wsi-run").into()));
    command.current_dir(dir).args(arguments).env_remove("WSI_RUN_THREADS").stdin(Stdio::null());
    command
}

pub fn wsi_run(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().unwrap()
}

pub fn start(dir: &Path, arguments: &[&str]) -> Child {
    command(dir, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

pub fn send(child: &Child, signal: Signal) {
    // One that has just ended is no fault.
    let _ = kill_process(Pid::from_child(child), signal);
}

pub fn home(yaml: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("p.yaml"), yaml).unwrap();
    home
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
}

pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Every byte of every result; what tells of times and processes is left out.
pub fn results(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = files(dir);
    let told = [".state/", "logs/", "slurm/", "run"];
    all.retain(|name, _| {
        name != "slides.parquet" && name != "report.html" && !told.iter().any(|t| name.starts_with(t))
    });
    all
}

pub fn assert_same(name: &str, expected: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>(), "{name}: other files");
    for (file, bytes) in expected {
        assert!(bytes == &found[file], "{name}: {file} differs");
    }
}

/// `slides.parquet` as text, by slide, without what tells of times and memory.
pub fn rows(dir: &Path) -> BTreeMap<String, Vec<String>> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(fs::File::open(dir.join("slides.parquet")).unwrap()).unwrap();
    let row = |row: parquet::record::Row| {
        let columns = row.get_column_iter().filter(|(name, _)| !name.ends_with("_secs") && *name != "peak_rss_bytes");
        let said: Vec<String> = columns.map(|(name, value)| format!("{name} {value}")).collect();
        (said[0].clone(), said)
    };
    reader.get_row_iter(None).unwrap().map(|r| row(r.unwrap())).collect()
}

/// What `report.html` says, without what tells of times.
pub fn report_data(dir: &Path) -> serde_json::Value {
    let page = fs::read_to_string(dir.join("report.html")).unwrap();
    let data = page.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let mut data: serde_json::Value = serde_json::from_str(data).unwrap();
    for key in ["started_at", "finished_at", "run_secs", "slides_run"] {
        data["run"].as_object_mut().unwrap().remove(key);
    }
    for slide in data["slides"].as_array_mut().unwrap() {
        for key in ["wall_secs", "stage_secs"] {
            slide.as_object_mut().unwrap().remove(key);
        }
    }
    data
}

/// How often the logs say `what`.
pub fn logged(out: &Path, what: &str) -> usize {
    files(&out.join("logs")).values().map(|log| text(log).matches(what).count()).sum()
}

/// The size of the largest journal of a slide that is under way.
pub fn journal_bytes(out: &Path) -> u64 {
    let dirs = fs::read_dir(out.join(".partial")).into_iter().flatten().flatten();
    dirs.filter_map(|dir| fs::metadata(dir.path().join("journal")).ok()).map(|m| m.len()).max().unwrap_or(0)
}

/// Mounts a small disk; none where this may not be done.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|o| o.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A slide of dark spots on pink on glass.
pub fn picture(path: &Path, seed: u64) {
    let (w, h) = (700_u32, 500_u32);
    let mut dice = Dice(seed | 1);
    // Dark spots on pink on glass.
    let spots: Vec<(i64, i64)> = (0..40).map(|_| (150 + dice.roll(400) as i64, 100 + dice.roll(300) as i64)).collect();
    let mut rgb = Vec::with_capacity((w * h * 3) as usize);
    for y in 0..i64::from(h) {
        for x in 0..i64::from(w) {
            let is_tissue = (100..600).contains(&x) && (60..440).contains(&y);
            let is_spot = spots.iter().any(|(sx, sy)| (x - sx).pow(2) + (y - sy).pow(2) < 64);
            rgb.extend(if is_spot {
                [80, 50, 130]
            } else if is_tissue {
                [230, 170, 200]
            } else {
                [245, 245, 245]
            });
        }
    }
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), w, h);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&rgb).unwrap();
}
