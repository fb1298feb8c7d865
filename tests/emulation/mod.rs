//! Runs lists of kernel launches on the processor.
#![allow(clippy::print_stdout, reason = "a test that runs nothing says so")]
#![allow(dead_code, reason = "each test uses a part")]

use std::{
    fs,
    io::BufWriter,
    path::{Path, PathBuf},
    process::Command,
};
use wsi_run::infer::cuda::{Format, Launch, launch::write_job};

/// A `libcuda.so` that runs the kernels by the emulation; nothing and a word about it where there is no C++ compiler.
pub(crate) fn driver() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulated_driver");
    fs::create_dir_all(&folder).unwrap();
    build(&folder.join("libcuda.so"), "driver.cpp", &["-O2", "-march=native", "-fPIC", "-shared"], Format::Half)
}

/// How the emulation is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// As fast as it gets.
    Fast,
    /// A CUDA thread is an OS thread, under the thread sanitizer.
    Threads,
    /// Under the address and undefined-behaviour sanitizers.
    Address,
}

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

/// Newest file of the kernels.
fn changed() -> std::time::SystemTime {
    let files = |dir: PathBuf| fs::read_dir(dir).unwrap().map(|e| e.unwrap().metadata().unwrap());
    let all = files(kernels()).chain(files(kernels().join("emulation")));
    all.filter(fs::Metadata::is_file).map(|m| m.modified().unwrap()).max().unwrap()
}

/// The emulation's program; nothing and a word about it where there is no C++ compiler.
pub(crate) fn emulation(build: Build, format: Format) -> Option<PathBuf> {
    let options: &[&str] = match build {
        Build::Fast => &["-O2", "-march=native"],
        Build::Threads => &["-O1", "-g", "-fsanitize=thread", "-DEMULATION_THREADS=1"],
        Build::Address => &["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    };
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("emulation_{build:?}_{}", format.name()));
    self::build(&to, "main.cpp", options, format)
}

fn build(to: &Path, source: &str, options: &[&str], format: Format) -> Option<PathBuf> {
    // One at a time, in this program and in others that share the folder.
    let one = fs::File::create(to.with_extension("lock")).unwrap();
    one.lock().unwrap();
    if to.metadata().is_ok_and(|m| m.modified().unwrap() > changed()) {
        return Some(to.to_path_buf());
    }
    // Aside and then in place: one that is cut short leaves no half.
    let aside = to.with_extension(format!("{}", std::process::id()));
    let mut command = Command::new(std::env::var("CXX").unwrap_or_else(|_| "g++".to_owned()));
    // Fused operations would change the bits of what must not be fused.
    command.args(["-std=c++20", "-pthread", "-w", "-ffp-contract=off"]).args(options).arg("-o").arg(&aside);
    if format == Format::Bf16 {
        command.arg("-DWSI_BF16=1");
    }
    match command.arg(kernels().join("emulation").join(source)).output() {
        Err(e) => {
            println!("skipped: no C++ compiler ({e})");
            None
        }
        Ok(done) => {
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            fs::rename(&aside, to).unwrap();
            Some(to.to_path_buf())
        }
    }
}

/// Runs launches; returns what the regions hold then, or what the emulation says against them.
pub(crate) fn run(
    program: &Path,
    regions: &[Vec<u8>],
    launches: &[Launch],
    environment: &[(&str, &str)],
) -> Result<Vec<Vec<u8>>, String> {
    let folder = tempfile::tempdir().unwrap();
    let (job, result) = (folder.path().join("job"), folder.path().join("result"));
    write_job(&mut BufWriter::new(fs::File::create(&job).unwrap()), regions, launches).unwrap();
    let done = Command::new(program).args([&job, &result]).envs(environment.iter().copied()).output().unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    if std::env::var_os("EMULATION_TIMES").is_some() {
        println!("{}", String::from_utf8_lossy(&done.stderr));
    }
    let mut all = fs::read(&result).unwrap();
    Ok(regions
        .iter()
        .map(|region| {
            let rest = all.split_off(region.len());
            std::mem::replace(&mut all, rest)
        })
        .collect())
}

/// The toolkit's programs; nothing and a word about it where there is none.
pub(crate) fn toolkit() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let wheels = fs::read_dir(root.join("target/cuda-venv/lib")).into_iter().flatten().flatten();
    let wheels = wheels.map(|python| python.path().join("site-packages/nvidia/cu13/bin"));
    let home = std::env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let named = std::env::var_os("NVCC").map(|nvcc| PathBuf::from(nvcc).parent().unwrap().to_path_buf());
    let found = named.into_iter().chain(home).chain(wheels).find(|bin| bin.join("nvcc").exists());
    if found.is_none() {
        println!("skipped: no CUDA toolkit (`.ci/setup --tests` installs one)");
    }
    found
}
