//! `wsi-run submit pipeline.yaml`: a batch as a Slurm array, and the job that merges it.
//!
//! Owns: the scripts. Must not know: how slides are run.
//!
//! The number of tasks is written into the command, never taken from the environment: when only some tasks are
//! submitted again, Slurm's own count changes. Slides and their work are listed when the batch is submitted.

use super::{
    pipeline::{load, report, use_threads},
    status::clock,
};
use crate::{
    cli::{
        amount::{bytes, counted},
        args::{CommonArgs, SubmitArgs},
        style::Style,
    },
    config::settings::{Device, ModelChoice, Precision, Settings},
    error::{RunError, exit},
    output::write_atomically,
    pipeline::{Setup, find_slides, plan_slide, secs_per_tile},
    run::{SlideList, StateDir, deal},
    slides::SlideEntry,
};
use anyhow::{Context, bail};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Exit code of a task that is to be queued again.
const AGAIN: u8 = exit::UNFINISHED;
/// How often a task may be queued again: one whose slide never fits its time would be for ever.
const RESTARTS_MAX: u32 = 50;
/// Time limit of a task of which nothing is known, s.
const UNKNOWN_SECS: u64 = 12 * 3600;
/// Time limit of a task beside the work of its tiles: reading, objects, writing, slower nodes, and a start.
const TIME_FACTOR: f64 = 3.0;
const LEAST_SECS: u64 = 1800;
const MOST_SECS: u64 = 14 * 86_400;
/// Memory of a task beside what its plan says: the program itself, allocator, page tables.
const MEMORY_BESIDE_MIB: u64 = 512;

/// The list of slides with their work, and what a task needs.
struct Planned {
    list: SlideList,
    memory_mib: u64,
    disk_bytes: u64,
    /// Seconds of the largest task on this machine, where that is known.
    task_secs: Option<f64>,
    failed: usize,
}

impl Planned {
    /// What the user may want to know before anything is submitted.
    fn in_words(&self, dir: &Path) -> Vec<String> {
        let (count, failed) = (self.list.slides.len(), self.failed);
        let cannot = if failed > 0 { format!(", {failed} of them cannot run") } else { String::new() };
        let mut lines = vec![format!("{}{cannot}", counted(count, "slide"))];
        if let Some(secs) = self.task_secs {
            lines.push(format!("the tiles of the largest task would take about {} on this machine", clock(secs)));
        }
        // The directory need not be there yet.
        let free = dir.ancestors().find_map(|dir| rustix::fs::statvfs(dir).ok());
        let free = free.map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        if self.disk_bytes > 0 {
            let lacks =
                if free < self.disk_bytes { format!(", and only {} are free", bytes(free)) } else { String::new() };
            lines.push(format!("results take about {} on disk{lacks}", bytes(self.disk_bytes)));
        }
        lines
    }
}

/// What a batch is planned with: the threads of a task, not of this machine, which may have no GPU either.
fn for_planning(settings: &Settings, args: &SubmitArgs) -> Settings {
    let mut settings = settings.clone();
    settings.run.threads = args.pipeline.over.threads.unwrap_or(args.cpus);
    if let ModelChoice::Network(network) = &mut settings.model
        && matches!(network.device, Device::Cuda(_))
        && cfg!(feature = "cuda")
    {
        (network.device, network.precision) = (Device::Cpu, Precision::Usual);
    }
    settings
}

/// Time limit of a task, s: what the user says, else what its work asks for.
fn limit_secs(args: &SubmitArgs, planned: &Planned) -> u64 {
    let told = planned.task_secs.filter(|_| args.gpus.is_none()).map(|secs| secs * TIME_FACTOR);
    let whole = |secs: f64| (secs as u64).clamp(LEAST_SECS, MOST_SECS).next_multiple_of(300);
    args.time.unwrap_or(told.map_or(UNKNOWN_SECS, whole))
}

/// Text as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Opens every slide: its tiles are its work.
fn plan(entries: &[SlideEntry], setup: &Setup, tasks: u32, out: &mut dyn Write) -> std::io::Result<Planned> {
    let (mut work, mut most, mut disk_bytes, mut failed) = (vec![], 0, 0, 0);
    for entry in entries {
        match plan_slide(entry, setup) {
            Ok(plan) => {
                work.push(plan.tiles.tiles.len() as u64);
                most = most.max(plan.slide_bytes(setup));
                disk_bytes += plan.disk_bytes(setup);
            }
            Err(error) => {
                // It will be a failed slide of the batch, with this reason.
                writeln!(out, "# {}: cannot run: {error}", entry.id)?;
                work.push(0);
                failed += 1;
            }
        }
    }
    let bytes = setup.flow_bytes() + most * setup.slots() as u64;
    let memory_mib = bytes.div_ceil(1 << 20) * 5 / 4 + MEMORY_BESIDE_MIB;
    let list = SlideList::new(entries, work);
    let mut tiles = vec![0; tasks as usize];
    deal(&list.slides, tasks).iter().zip(&list.slides).for_each(|(&of, slide)| tiles[of as usize - 1] += slide.work);
    let largest = tiles.into_iter().max().unwrap_or(0) as f64;
    let task_secs = secs_per_tile(setup).map(|secs| secs * largest);
    Ok(Planned { list, memory_mib, disk_bytes, task_secs, failed })
}

/// What both scripts say.
struct Scripts<'a> {
    args: &'a SubmitArgs,
    program: String,
    here: String,
    dir: String,
    memory: String,
    secs: u64,
}

impl Scripts<'_> {
    fn head(&self, lines: &[String]) -> String {
        let extra = self
            .args
            .sbatch
            .iter()
            .map(|option| if option.starts_with('-') { option.clone() } else { format!("--{option}") });
        let all = lines.iter().cloned().chain([format!("--chdir={}", quoted(&self.here))]).chain(extra);
        let lines: String = all.map(|line| format!("#SBATCH {line}\n")).collect();
        format!("#!/bin/bash\n{lines}\n")
    }

    fn tasks(&self) -> String {
        let a = self.args;
        let mut lines = vec![
            "--job-name=wsi-run".to_owned(),
            format!("--array=1-{}", a.tasks),
            "--ntasks=1".to_owned(),
            format!("--cpus-per-task={}", a.cpus),
            format!("--mem={}", self.memory),
            format!("--time={}", self.secs.div_ceil(60)),
            "--requeue".to_owned(),
            "--open-mode=append".to_owned(),
            format!("--signal=USR1@{}", a.grace),
            format!("--output={}", quoted(&format!("{}/slurm/task-%a.log", self.dir))),
        ];
        lines.extend(a.gpus.map(|n| format!("--gpus-per-task={n}")));
        let overrides: String =
            a.pipeline.over.as_overrides().iter().map(|set| format!(" --set {}", quoted(set))).collect();
        let (head, program) = (self.head(&lines), quoted(&self.program));
        let (yaml, dir) = (quoted(&format!("{}/slurm/pipeline.yaml", self.dir)), quoted(&self.dir));
        let tasks = a.tasks;
        format!(
            "{head}\
             # Task N runs the Nth of {tasks} parts. Killed, requeued or submitted again, it goes on where it was.\n\
             srun --cpus-per-task=\"$SLURM_CPUS_PER_TASK\" {program} run {yaml}{overrides} --output {dir} \\\n  \
             --shard \"$SLURM_ARRAY_TASK_ID/{tasks}\" --listed --no-progress\n\
             code=$?\n\n\
             # {AGAIN}: time is up and slides are left. The task queues again and saves nothing twice.\n\
             if [ $code -eq {AGAIN} ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {RESTARTS_MAX} ]; then\n  \
             scontrol requeue \"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}\" && exit 0\n\
             fi\n\
             exit $code\n"
        )
    }

    fn merge(&self) -> String {
        let lines = [
            "--job-name=wsi-run-merge".to_owned(),
            "--ntasks=1".to_owned(),
            "--mem=1G".to_owned(),
            "--time=60".to_owned(),
            format!("--output={}", quoted(&format!("{}/slurm/merge.log", self.dir))),
        ];
        format!("{}{} merge {}\n", self.head(&lines), quoted(&self.program), quoted(&self.dir))
    }
}

/// Submits a script and gives the job's id.
fn sbatch(path: &Path, options: &[String]) -> anyhow::Result<String> {
    let run = Command::new("sbatch").arg("--parsable").args(options).arg(path).stdin(Stdio::null()).output();
    let output = run.context("cannot run `sbatch`: is this a machine of the cluster?")?;
    if !output.status.success() {
        bail!("sbatch: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let id = String::from_utf8_lossy(&output.stdout).trim().split(';').next().unwrap_or_default().to_owned();
    if id.is_empty() { bail!("sbatch told no job id") } else { Ok(id) }
}

/// `submit`.
pub(super) fn run(args: &SubmitArgs, common: &CommonArgs, style: Style) -> anyhow::Result<u8> {
    let loaded = match load(&args.pipeline, common, style) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    let settings = for_planning(&loaded.settings, args);
    use_threads(&settings);
    let prepared = Setup::new(&settings).and_then(|s| Ok((s, find_slides(&settings)?)));
    let (setup, entries) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(report(&error, common, style)),
    };
    let mut out = std::io::stdout().lock();
    let planned = if args.unopened {
        let list = SlideList::by_bytes(&entries);
        Planned { list, memory_mib: 0, disk_bytes: 0, task_secs: None, failed: 0 }
    } else {
        plan(&entries, &setup, args.tasks, &mut out)?
    };
    let here = std::env::current_dir()?;
    let dir: PathBuf = here.join(&settings.output.dir);
    let scripts = Scripts {
        args,
        program: std::env::current_exe()?.display().to_string(),
        here: here.display().to_string(),
        dir: dir.display().to_string(),
        memory: args.mem.clone().unwrap_or_else(|| format!("{}M", planned.memory_mib)),
        secs: limit_secs(args, &planned),
    };
    let (tasks, merge) = (scripts.tasks(), scripts.merge());
    for line in planned.in_words(&dir) {
        writeln!(out, "# {line}")?;
    }
    if args.dry_run {
        writeln!(out, "\n# tasks.sh\n{tasks}\n# merge.sh, after all of them\n{merge}")?;
        return Ok(exit::OK);
    }
    let [tasks_path, merge_path] = ["tasks.sh", "merge.sh"].map(|name| dir.join("slurm").join(name));
    let unwritable = |e: crate::output::OutputError| RunError::Output { message: e.to_string(), hint: None };
    let state = StateDir::new(&dir);
    let write = || {
        write_atomically(&dir.join("slurm/pipeline.yaml"), loaded.text.as_bytes())?;
        write_atomically(&tasks_path, tasks.as_bytes())?;
        write_atomically(&merge_path, merge.as_bytes())?;
        planned.list.write(&state)
    };
    if let Err(error) = write() {
        return Ok(report(&unwritable(error), common, style));
    }
    // Shards of an earlier batch would be merged with this one's.
    remove_shards(&dir)?;
    let job = sbatch(&tasks_path, &[])?;
    let merge_job = sbatch(&merge_path, &[format!("--dependency=afterany:{job}")])?;
    writeln!(
        out,
        "{} in {}: job {job}, merged by job {merge_job}",
        counted(entries.len(), "slide"),
        counted(args.tasks as usize, "task")
    )?;
    writeln!(out, "wsi-run status {} tells how far they are", quoted(&settings.output.dir.to_string_lossy()))?;
    Ok(exit::OK)
}

fn remove_shards(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("run-") && name.contains("-of-") && name.ends_with(".json") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
