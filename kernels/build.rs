//! Compiles the CUDA kernels into the program, where the `cuda` feature is on and a toolkit is found.
//!
//! Looks for `nvcc` in `NVCC`, `CUDA_HOME/bin`, `PATH` and `target/cuda-venv` (made by `.ci/setup --cuda`). Without one
//! the program still builds: the kernels' text is embedded always, and compiled by NVRTC when a GPU is first used.
//!
//! Of each number format: PTX for compute capability 8.0, which the driver compiles for any later GPU, and machine code
//! for 9.0. PTX of a new toolkit asks for a driver as new; the kernels use nothing newer than PTX 7.8, and say so, so
//! that drivers since 520 take them.

#[path = "../src/infer/cuda/ptx.rs"]
mod ptx;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const FORMATS: [(&str, &[&str]); 2] = [("f16", &[]), ("bf16", &["-DWSI_BF16=1"])];

fn main() {
    let kernels = Path::new("kernels");
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rerun-if-changed=src/infer/cuda/ptx.rs");
    for variable in ["NVCC", "CUDA_HOME", "PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("all.cu"), joined(kernels)).expect("the output folder can be written");
    let nvcc = nvcc();
    if nvcc.is_none() {
        println!("cargo:warning=no nvcc: the CUDA kernels are compiled when a GPU is first used, by NVRTC");
    }
    let mut table = "pub(super) const EMBEDDED: &[Embedded] = &[\n".to_owned();
    for (format, _) in FORMATS.iter().filter(|_| nvcc.is_some()) {
        let (ptx, cubin) = (out.join(format!("{format}.ptx")), out.join(format!("{format}.cubin")));
        table += &format!(
            "    Embedded {{ format: \"{format}\", ptx: include_str!({ptx:?}), cubin_90: include_bytes!({cubin:?}) }},\n"
        );
    }
    table += "];\n";
    if let Some(nvcc) = &nvcc {
        std::thread::scope(|threads| {
            for (format, defines) in FORMATS {
                let (ptx, cubin) = (out.join(format!("{format}.ptx")), out.join(format!("{format}.cubin")));
                threads.spawn(move || {
                    compile(nvcc, &ptx, defines, &["-ptx", "-arch=compute_80"]);
                    let text = fs::read_to_string(&ptx).expect("nvcc wrote it");
                    fs::write(&ptx, ptx::for_older_drivers(&text)).expect("the output folder can be written");
                });
                threads.spawn(move || {
                    compile(nvcc, &cubin, defines, &["-cubin", "-gencode=arch=compute_90a,code=sm_90a"])
                });
            }
        });
    }
    fs::write(out.join("embedded.rs"), table).expect("the output folder can be written");
}

/// `all.cu` with every file it includes in its place, each once.
fn joined(kernels: &Path) -> String {
    fn add(path: &Path, seen: &mut Vec<PathBuf>, text: &mut String) {
        if seen.contains(&path.to_path_buf()) {
            return;
        }
        seen.push(path.to_path_buf());
        for line in fs::read_to_string(path).expect("kernels are part of the sources").lines() {
            match line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"')) {
                // The emulation's are for another compiler.
                Some(name) if name.starts_with("emulation/") => {}
                Some(name) => add(&path.with_file_name(name), seen, text),
                None if line == "#pragma once" => {}
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
    }
    let mut text = String::new();
    add(&kernels.join("all.cu"), &mut vec![], &mut text);
    text
}

fn nvcc() -> Option<PathBuf> {
    let named = env::var_os("NVCC").map(PathBuf::from);
    let home = env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).map(|p| p.join("nvcc")).collect::<Vec<_>>());
    let site = fs::read_dir("target/cuda-venv/lib").into_iter().flatten().flatten();
    let wheels = site.map(|python| python.path().join("site-packages/nvidia/cu13/bin/nvcc"));
    named.into_iter().chain(home).chain(on_path.into_iter().flatten()).chain(wheels).find(|p| p.exists())
}

fn compile(nvcc: &Path, to: &Path, defines: &[&str], kind: &[&str]) {
    // A toolkit of wheels finds its other programs by its own place.
    let done =
        Command::new(nvcc).args(["-std=c++17", "-o"]).arg(to).args(kind).args(defines).arg("kernels/all.cu").output();
    match done {
        Ok(done) if done.status.success() => {}
        Ok(done) => panic!("nvcc refuses the kernels:\n{}", String::from_utf8_lossy(&done.stderr)),
        Err(e) => panic!("`{}` does not run: {e}", nvcc.display()),
    }
}
