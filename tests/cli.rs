//! The command line as a user meets it: verbs, options, help, exit codes.

use clap::FromArgMatches;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Output};
use wsi_run::cli::args::{self, Cli, Verb};

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("wsi-run").chain(line.split_whitespace()).map(OsString::from).collect()
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let command = args::command();
    let arguments = args::with_implied_run(&command, words(line));
    Cli::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wsi-run"))
        .args(arguments)
        .env_remove("WSI_RUN_THREADS")
        .env("NO_COLOR", "1")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_command_line_is_well_formed() {
    args::command().debug_assert();
}

#[test]
fn run_is_implied_when_the_first_word_is_no_verb() {
    for line in
        ["p.yaml", "run p.yaml", "-q p.yaml", "--set a.b=1 p.yaml", "--threads 4 p.yaml", "-j 4 p.yaml", "-- p.yaml"]
    {
        match parse(line).unwrap().verb {
            Verb::Run(run) => assert_eq!(run.pipeline.pipeline, PathBuf::from("p.yaml"), "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    assert!(matches!(parse("plan p.yaml").unwrap().verb, Verb::Plan(_)));
    assert!(matches!(parse("-v models").unwrap().verb, Verb::Models(_)));
}

#[test]
fn a_pipeline_may_be_named_like_a_verb_when_run_is_said() {
    assert!(matches!(parse("run plan").unwrap().verb, Verb::Run(_)));
    assert!(matches!(parse("./plan").unwrap().verb, Verb::Run(_)));
}

#[test]
fn every_verb_parses() {
    let lines = [
        "run p.yaml --no-progress",
        "p.yaml --shard 3/16 --listed --time-limit 1-12:00:00 --max-failures 5",
        "run p.yaml --claim --time-limit 90m",
        "submit p.yaml --tasks 16 --dry-run --sbatch=--partition=long",
        "status results --json",
        "merge results",
        "retry results --set run.threads=2",
        "plan p.yaml --set a.b=1 --set c.d=2",
        "info slide.svs --json",
        "thumbnail slide.svs -o out.png --max-px 512",
        "verify results",
        "models",
        "completions zsh",
        "convert a.pth --model hover_net --classes pannuke -o a.safetensors",
        "convert a.pth --model hover_net --classes-from type_info.json --mpp 0.25 -o a.safetensors",
        "convert a.pth --model resnet_50 --encoder-only --prefix module.encoder_q. --entry state_dict -o a.safetensors",
        "evaluate train.yaml --weights best.safetensors --before old -o new",
        "evaluate --model hematoxylin --images i --dots d --classes a,b --mpp 0.5 --draws 0 --resample image",
        "evaluate --results r --images i --masks m --mpp 1",
        "refine export --pipeline p.yaml --tile-px 256 --by slide --count 3",
        "refine export --weights w.safetensors --images i --mpp 0.5 --groups g.csv",
        "refine import out --corrected c -o data",
        "config",
        "config p.yaml --set a.b=1",
        "config --markdown",
    ];
    for line in lines {
        parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn named_options_become_overrides_after_set() {
    let Verb::Run(run) = parse("p.yaml --output out --set output.dir=x -j 3 --memory 2GiB").unwrap().verb else {
        panic!("not a run");
    };
    let expected = ["output.dir=x", "output.dir=out", "run.threads=3", "run.memory=2GiB"];
    assert_eq!(run.pipeline.over.as_overrides(), expected);
}

#[test]
fn impossible_options_are_refused() {
    for line in
        ["p.yaml -q -v", "p.yaml --threads 0", "thumbnail a.svs --max-px 0", "config p.yaml --markdown", "info", "a b"]
    {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn help_shows_verbs_examples_and_exit_codes() {
    let help = program(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout);
    for part in [
        "run",
        "plan",
        "config",
        "info",
        "thumbnail",
        "verify",
        "models",
        "convert",
        "bench",
        "completions",
        "Examples:",
        "Exit codes:",
    ] {
        assert!(help.contains(part), "{part}\n{help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    assert!(text(&program(&["help", "plan"]).stdout).contains("<PIPELINE>"));
    assert_eq!(program(&[]).status.code(), Some(2));
    assert_eq!(program(&["--version"]).status.code(), Some(0));
}

/// A run of the quickstart on a small slide, into a folder of its own.
fn quickstart(verb: &str, home: &std::path::Path, threads: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsi-run"));
    let pipeline = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/quickstart.yaml");
    let size = ["--set", "slides.synthetic.width_px=3000", "--set", "slides.synthetic.height_px=2000"];
    command.current_dir(home).args([verb, pipeline, "--output", "out", "--threads", threads]).args(size);
    command
}

#[test]
fn activations_are_planned_for_the_threads_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let activations = |threads: &str| -> f64 {
        let told = text(&quickstart("plan", home.path(), threads).output().unwrap().stdout);
        let line = told.lines().find(|line| line.ends_with("of activations")).unwrap().to_owned();
        line.split_whitespace().rev().nth(3).unwrap().parse().unwrap()
    };
    let one = activations("1");
    assert!((activations("3") / one - 3.0).abs() < 0.2 && (activations("16") / one - 16.0).abs() < 1.0);
}

#[cfg(target_os = "linux")]
#[test]
fn work_is_shared_out_among_the_threads_asked_for() {
    for threads in [1, 3] {
        let home = tempfile::tempdir().unwrap();
        let mut run = quickstart("run", home.path(), &threads.to_string()).arg("-q").spawn().unwrap();
        let mut most = 0;
        while run.try_wait().unwrap().is_none() {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", run.id())).into_iter().flatten().flatten();
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
            most = most.max(names.filter(|name| name.starts_with("shared")).count());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(most, threads);
    }
}

#[test]
fn bench_times_a_network_and_says_what_it_gave() {
    let run =
        program(&["bench", "stardist_unet", "--size", "16", "--secs", "0", "--threads", "2", "--batch", "3", "--json"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let told: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(told["images_per_sec"].as_f64().unwrap() > 0.0 && told["weight_bytes"].as_u64().unwrap() > 4_000_000);
    assert_eq!(told["heads"][1]["c"], 32);
    let plan = text(&program(&["bench", "stardist_unet", "--size", "16", "--secs", "0", "--plan"]).stdout);
    assert!(plan.contains("conv + relu") && plan.contains("images/s") && plan.contains("head prob_class"), "{plan}");
    assert!(text(&program(&["bench", "resnet"]).stderr).contains("resnet_50"));
}

#[test]
fn config_prints_every_key_and_the_file_it_prints_is_a_pipeline() {
    let all = program(&["config"]);
    assert_eq!(all.status.code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.yaml");
    std::fs::write(&path, &all.stdout).unwrap();
    let resolved = program(&["config", path.to_str().unwrap(), "--set", "batch.size=32"]);
    assert_eq!(resolved.status.code(), Some(0), "{}", text(&resolved.stderr));
    let resolved = text(&resolved.stdout);
    let line = resolved.lines().find(|line| line.trim_start().starts_with("size:")).unwrap();
    assert!(line.contains("32") && line.contains("# --set"), "{line}");
    assert!(text(&program(&["config", "--markdown"]).stdout).contains("| `tiling.tile_px` |"));
    assert_eq!(program(&["config", "--set", "batch.size=1"]).status.code(), Some(2));
}

#[test]
fn a_bad_pipeline_prints_all_errors_and_exits_with_2() {
    let bad = program(&["fixtures/config_errors/many_at_once.yaml", "--set", "batch.sise=1"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(bad.stdout.is_empty());
    let stderr = text(&bad.stderr);
    assert!(stderr.contains("--> fixtures/config_errors/many_at_once.yaml:3:11"), "{stderr}");
    assert!(stderr.contains("expected `batch.size`"), "{stderr}");
    assert!(stderr.contains("14 errors; nothing was run"), "{stderr}");
    assert!(!stderr.contains('\x1b'));
}

#[test]
fn with_log_json_errors_are_objects_too() {
    let bad = program(&["--log-json", "fixtures/config_errors/many_at_once.yaml"]);
    assert_eq!(bad.status.code(), Some(2));
    let lines: Vec<serde_json::Value> =
        text(&bad.stderr).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 13);
    assert_eq!(lines[2]["event"], "config_error");
    assert_eq!((lines[2]["line"].as_u64(), lines[2]["column"].as_u64()), (Some(3), Some(11)));
}

#[test]
fn colour_comes_only_when_asked_for() {
    let bad = program(&["--color", "always", "fixtures/config_errors/unknown_key.yaml"]);
    assert!(text(&bad.stderr).contains("\x1b[1;31merror:"));
}

#[test]
fn a_misspelled_verb_is_recognised() {
    let bad = program(&["modles"]);
    assert_eq!(bad.status.code(), Some(2));
    assert!(text(&bad.stderr).contains("hint: did you mean the verb `models`?"), "{}", text(&bad.stderr));
}

#[test]
fn a_misspelled_verb_before_its_words_is_recognised() {
    for words in [&["plam", "p.yaml"][..], &["stauts", "out", "--json"]] {
        let bad = program(words);
        assert_eq!(bad.status.code(), Some(2));
        let said = text(&bad.stderr);
        let right = if words[0] == "plam" { "plan" } else { "status" };
        assert!(said.contains(&format!("'{}'", words[0])) && said.contains(&format!("'{right}'")), "{said}");
    }
}

#[test]
fn a_bad_number_of_threads_in_the_environment_is_a_config_error() {
    let out = Command::new(env!("CARGO_BIN_EXE_wsi-run"))
        .args(["config", "pipelines/quickstart.yaml"])
        .env("WSI_RUN_THREADS", "many")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("--> environment:1:17"), "{}", text(&out.stderr));
}

#[test]
fn completions_come_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let out = program(&["completions", shell]);
        assert_eq!(out.status.code(), Some(0));
        assert!(text(&out.stdout).contains("thumbnail"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_wsi-run"))
        .args(["config", "--markdown"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(out.stderr.is_empty());
}

/// Runs `arguments` in a folder with the picture `plain.png` and the pipelines `ok.yaml` and, with `yaml`, `p.yaml`.
fn in_a_folder(yaml: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let picture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/slides/plain.png");
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(picture, at("plain.png")).unwrap();
    std::fs::write(at("ok.yaml"), "slides: { list: [plain.png], mpp: 0.5 }\n").unwrap();
    std::fs::write(at("p.yaml"), yaml).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    std::fs::create_dir(at("sub")).unwrap();
    std::fs::write(at("folder/plain.png"), "no picture").unwrap();
    std::fs::write(at("folder/plain.geojson"), "{\"type\":\"Sphere\"}").unwrap();
    std::fs::write(at("bad.csv"), "slide,mpp_x,mpp_y\nplain,abc,1\n").unwrap();
    Command::new(env!("CARGO_BIN_EXE_wsi-run"))
        .args(arguments)
        .env_remove("WSI_RUN_THREADS")
        .env("NO_COLOR", "1")
        .current_dir(folder.path())
        .output()
        .unwrap()
}

#[test]
fn every_mistake_gives_one_message_one_hint_and_its_exit_code() {
    let no_such_gpu = "slides: { list: [plain.png], mpp: 0.5 }\n\
                       model: { network: { name: stardist_unet, weights: random, device: 'cuda:99' } }\n";
    let cases: &[(&str, &str, i32, &str)] = &[
        ("", "no.yaml", 2, "cannot read the pipeline: No such file"),
        ("", "./folder", 2, "cannot read the pipeline: found a folder, expected a YAML file"),
        ("", "plain.png", 2, "cannot read the pipeline: byte 0 is not UTF-8, expected a YAML file"),
        ("", "p.yaml", 2, "`slides` does not say which slides"),
        ("slides:\n\tdir: x\n", "p.yaml", 2, "tabs disallowed"),
        ("", "ok.yaml --set nonsense", 2, "`--set` without a value: found `nonsense`"),
        ("", "ok.yaml --set =3", 2, "`--set` without a key"),
        ("", "ok.yaml --set output=5", 2, "`output`: found `5`, expected a mapping"),
        ("", "ok.yaml --set tiling.tile_px=[1", 2, "unclosed bracket"),
        ("", "ok.yaml --set run.threads=0", 2, "found `0`, expected a whole number from 1"),
        ("", "ok.yaml --set run.memory=1KiB", 2, "`run.memory`: found the text `1KiB`, expected a number of bytes"),
        ("", "ok.yaml --set pixels.stain.macenko.reference=no.png", 2, "stain reference cannot be used"),
        ("slides: { glob: 'zzz/*.svs' }", "p.yaml", 4, "no slide found: `slides.glob` matches none: zzz/*.svs"),
        ("slides: { dir: sub }", "p.yaml", 4, "no slide found: `slides.dir` holds none: sub"),
        ("", "ok.yaml --set model.network.weights=no.safetensors", 2, "`model.network.weights` is no file: no.saf"),
        (no_such_gpu, "p.yaml", 2, "`model.network.device: auto` takes the processor where there is no GPU"),
        ("slides: { dir: zzz }", "p.yaml", 2, "cannot list slides: No such file"),
        ("slides: { list: [folder], mpp: 1 }", "p.yaml", 3, "found a folder, expected a file"),
        ("slides: { list: [no.svs], mpp: 1 }", "p.yaml", 3, "cannot open slide: No such file"),
        ("slides: { list: [ok.yaml], mpp: 1 }", "p.yaml", 3, "cannot open slide"),
        ("slides: { list: [plain.png] }", "p.yaml", 3, "mpp unknown"),
        ("slides: { list: [plain.png], mpp_csv: bad.csv }", "p.yaml", 3, "line 2: found `abc`, expected µm per px"),
        ("", "ok.yaml --set tissue.mask_dir=none", 2, "`tissue.mask_dir` is no directory"),
        ("", "ok.yaml --set tissue.mask_dir=folder", 3, "cannot use tissue mask"),
        ("", "ok.yaml --set tissue.geojson_dir=none", 2, "`tissue.geojson_dir` is no directory"),
        ("", "ok.yaml --set tissue.geojson_dir=folder", 3, "type `Sphere`, expected a GeoJSON object"),
        ("", "ok.yaml --set output.dir=p.yaml", 1, "output directory is a file"),
        ("", "ok.yaml --set output.dir=/proc/none", 1, "output: cannot write"),
        ("", "info no.svs", 3, "cannot open slide: No such file"),
        ("", "verify folder", 2, "no results of a run"),
    ];
    let mut wrong = Vec::new();
    for (yaml, line, code, says) in cases {
        let out = in_a_folder(yaml, &line.split(' ').collect::<Vec<_>>());
        let stderr = text(&out.stderr);
        let hints = stderr.lines().filter(|l| l.trim_start().starts_with("hint: ")).count();
        if out.status.code() != Some(*code) || !stderr.contains(says) || hints != 1 || stderr.contains("panicked") {
            wrong.push(format!(
                "== {line}: {:?}, {hints} hints, expected {code} and {says}\n{stderr}",
                out.status.code()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_pattern_without_a_folder_finds_what_lies_beside() {
    for pattern in ["*.png", "./*.png", "**/pl*.png", "pl?in.png"] {
        let out =
            in_a_folder(&format!("slides: {{ glob: '{pattern}', exclude: ['folder/*'], mpp: 0.5 }}"), &["p.yaml"]);
        assert_eq!(out.status.code(), Some(0), "{pattern}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("1 slide, 0 failed"), "{pattern}: {}", text(&out.stderr));
    }
}

/// `convert` with these words after the checkpoint and the network.
fn convert(checkpoint: &str, model: &str, rest: &[&str]) -> Output {
    program(&[&["convert", checkpoint, "--model", model], rest].concat())
}

#[test]
fn convert_says_what_it_made_and_from_what() {
    use wsi_run::model::weights::Weights;
    let (folder, checkpoint) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let theirs = checkpoint.path().join("theirs.pth");
    let ours = folder.path().join("ours.safetensors");
    let graph = wsi_run::model::stardist_unet(32, None);
    let metadata = wsi_run::model::weights::WeightsMetadata {
        model: "none".to_owned(),
        classes: vec![],
        input_mpp: wsi_run::units::Mpp::new(1.0).unwrap(),
        normalisation: wsi_run::model::weights::Normalisation::UNIT,
        licence: String::new(),
        training_data: String::new(),
        prob_threshold: None,
        about: None,
    };
    // Formats are told by what is in a file, not by its name.
    Weights::random(&graph, metadata, 1).write(&theirs).unwrap();
    let words = ["--classes", "kumar", "--mpp", "0.5", "--licence", "MIT", "--training-data", "ten slides", "-o"];
    let done = convert(theirs.to_str().unwrap(), "stardist_unet", &[&words[..], &[ours.to_str().unwrap()]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let said = text(&done.stdout);
    for part in ["1,425,761", "nucleus #00ff00", "0.5 µm/px", "MIT", "ten slides", "sha256"] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let (read_graph, weights) = Weights::open(&ours).unwrap();
    assert_eq!(read_graph, graph);
    assert_eq!((weights.metadata.licence.as_str(), weights.metadata.training_data.as_str()), ("MIT", "ten slides"));
    assert!(said.contains(&weights.sha256()), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let onto_itself = convert(ours.to_str().unwrap(), "stardist_unet", &["-o", ours.to_str().unwrap()]);
    assert_eq!(onto_itself.status.code(), Some(2));
    assert!(text(&onto_itself.stderr).contains("output is the checkpoint itself"), "{}", text(&onto_itself.stderr));
}

#[test]
fn convert_refuses_what_makes_no_sense_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.safetensors");
    let out = out.to_str().unwrap();
    let good = ["--classes", "a=#000000", "--mpp", "1", "-o", out];
    let cases: [(&str, &str, &[&str], i32, &str); 9] = [
        ("plain.zip.pth", "nonsense", &good, 2, "hint: the networks are crescent_seg_net, "),
        ("plain.zip.pth", "u_net", &["--classes", "red", "--mpp", "1", "-o", out], 2, "`name=#rrggbb`"),
        ("plain.zip.pth", "u_net", &["--classes", "a=#000000", "--mpp", "0", "-o", out], 2, "`--mpp` is `0`"),
        ("plain.zip.pth", "u_net", &["--classes-from", "Cargo.toml", "--mpp", "1", "-o", out], 2, "type info"),
        (
            "plain.zip.pth",
            "u_net",
            &["--normalisation", "1,2", "--encoder-only", "--mpp", "1", "-o", out],
            2,
            "imagenet",
        ),
        ("plain.zip.pth", "u_net", &["--classes", "a=#000000", "-o", out], 1, "hint: give it with `--mpp`"),
        ("plain.zip.pth", "u_net", &good, 1, "hint: this looks like a checkpoint of another network"),
        ("hostile_eval.pth", "u_net", &good, 1, "hint: nothing was run"),
        ("hostile_header.safetensors", "u_net", &good, 1, "header claims `10000000000` bytes"),
    ];
    for (file, model, rest, code, expected) in cases {
        let bad = convert(&format!("fixtures/weights/{file}"), model, rest);
        let said = text(&bad.stderr);
        assert_eq!(bad.status.code(), Some(code), "{said}");
        assert!(said.contains(expected), "{expected}\n{said}");
        assert!(said.lines().count() <= 4 || code == 2, "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_readme_has_the_table_of_networks_as_the_program_prints_it() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let table = program(&["models", "--markdown"]);
    assert_eq!(table.status.code(), Some(0));
    assert!(readme.contains(&text(&table.stdout)), "copy what `wsi-run models --markdown` prints");
}
