//! A run: the threads, the queues between them, and the records that remain.
//!
//! Owns: [`run`], [`RunContext`], [`RunSummary`]. Must not know: YAML, terminals, what stages do.
//!
//! ```text
//! feeders ×K ─► readers ×R ─► batcher ─► predictors ×P ─► stitchers ×K ─► extractors ×E ─► writers ×K
//! open, plan    pixels,        by count   the model        canvases        regions →        outputs,
//! one slide     stain                                                      instances        one slide each
//! each          ▲ buffers from a pool                                                       └─► feeders: slide done
//! ```
//!
//! Every queue is bounded and the graph has no cycle but the last arrow, which never blocks. A slide's canvas is
//! owned by the stitcher of its slot, its outputs by the writer of its slot.

use crate::{
    config::settings::Settings,
    error::{RunError, StageName},
    output::{Artifact, SlideRecord},
    pipeline::{
        beat::{Common, beat},
        cancel::{CancelToken, StopReason},
        feeder::Feeder,
        progress::Progress,
        setup::Setup,
        stage::{Router, drive},
        stages::{
            BatchStage, ExtractStage, PredictStage, ReadStage, StitchStage, Stitched, TileOutcome, WriteMessage,
            WriteStage,
        },
        work::Failed,
    },
    pixels::{BufferPool, ReadScratch},
    run::{Claim, Claims, StateDir},
    slides::SlideEntry,
    stitch::RegionPool,
};
use crossbeam_channel::bounded;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread::{Scope, ScopedJoinHandle, scope},
    time::{Duration, Instant},
};

/// What a run needs beside its settings.
#[derive(Clone)]
pub struct RunContext {
    /// Asks the run to stop.
    pub cancel: CancelToken,
    /// Is told what happens.
    pub progress: Arc<dyn Progress>,
}

/// What a run shares with others that work for the same output directory.
pub struct Share {
    /// What became of each slide.
    pub state: StateDir,
    /// Who works on what.
    pub claims: Claims,
    /// What happens to slides that failed before.
    pub failed: Failed,
    /// Which part of the slides this run has, in words.
    pub shard: Option<String>,
    /// The right to be the only run of the output directory, if it has that.
    pub lock: Option<Claim>,
}

impl Share {
    /// All of an output directory that nobody else works in.
    pub fn alone(settings: &Settings) -> Self {
        let state = StateDir::new(&settings.output.dir);
        let claims = Claims::new(&state, Duration::from_secs(settings.run.lease_secs.into()));
        Self { state, claims, failed: Failed::Again, shard: None, lock: None }
    }
}

/// What remains of a run.
#[derive(Debug)]
pub struct RunSummary {
    /// The slides that were looked at, in the order of the slide list.
    pub slides: Vec<SlideResult>,
    /// Slides that were not looked at because the run was asked to stop.
    pub not_started: usize,
    /// Why it stopped before its last slide, if it did.
    pub stopped: Option<StopReason>,
}

/// What remains of a slide.
#[derive(Debug, Clone)]
pub struct SlideResult {
    /// Its row of `slides.parquet`.
    pub record: SlideRecord,
    /// Its files and directories.
    pub artifacts: Vec<Artifact>,
    /// Whether this run had nothing to do for it.
    pub is_unchanged: bool,
}

/// Runs the slides of `entries` that are not done, as far as nobody else does.
///
/// # Errors
/// [`RunError`] when the run cannot go on; slides finished before it keep their outputs.
pub fn run(setup: &Setup, entries: &[SlideEntry], share: &Share, context: &RunContext) -> Result<RunSummary, RunError> {
    context.progress.run_started(entries.len() as u64);
    let common = Common::new(setup, entries, share, context);
    let result = scope(|s| {
        let (stop_tx, stop_rx) = bounded::<()>(0);
        let (cancel, common) = (&context.cancel, &common);
        let beat = spawn(s, StageName::Slides, cancel, move || {
            beat(common, &stop_rx);
            Ok(())
        });
        let handles = spawn_all(s, common);
        // Every thread is waited for; the first error is the run's.
        let mut ends: Vec<Result<(), RunError>> = handles.into_iter().map(join).collect();
        drop(stop_tx);
        ends.push(join(beat));
        ends.into_iter().collect::<Result<(), RunError>>()
    });
    context.progress.run_finished();
    result?;
    let mut results = common.results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    let slides: Vec<_> = results.into_iter().map(|(_, result)| result).collect();
    let not_started = entries.len() - slides.len();
    Ok(RunSummary { slides, not_started, stopped: context.cancel.reason().cloned() })
}

type Handle<'scope> = (StageName, ScopedJoinHandle<'scope, Result<(), RunError>>);

fn join((stage, handle): Handle<'_>) -> Result<(), RunError> {
    handle.join().unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Err(RunError::Panicked { stage, message })
    })
}

/// Starts every thread of the run; the queues close one after another when the feeders are done.
fn spawn_all<'scope, 'env: 'scope>(s: &'scope Scope<'scope, 'env>, common: &'env Common<'env>) -> Vec<Handle<'scope>> {
    let (setup, context) = (common.setup, common.context);
    let (threads, slots) = (setup.threads(), setup.slots());
    let pool = BufferPool::new(setup.pool_buffers(), setup.tile_bytes());
    let regions = Arc::new(RegionPool::new(setup.extractors() + setup.regions_waiting()));
    let (tile_tx, tile_rx) = bounded(4);
    let (read_tx, read_rx) = bounded(2 * threads);
    let (batch_tx, batch_rx) = bounded(2);
    let (region_tx, region_rx) = bounded::<Stitched>(setup.regions_waiting());
    let (stitch_txs, stitch_rxs): (Vec<_>, Vec<_>) = (0..slots).map(|_| bounded(setup.stitch_queue())).unzip();
    let (write_txs, write_rxs): (Vec<_>, Vec<_>) = (0..slots).map(|_| bounded(2)).unzip();
    let stitchers = Router::new(stitch_txs, |o: &TileOutcome| match o {
        TileOutcome::Predicted(tile, _) => tile.at.job.slot,
        TileOutcome::Skipped(at) => at.job.slot,
    });
    let writers = Router::new(write_txs.clone(), |m: &WriteMessage| match m {
        WriteMessage::Start(job, _)
        | WriteMessage::Part(job, _)
        | WriteMessage::Lost(job)
        | WriteMessage::Ended(job) => job.slot,
    });
    let cancel = &context.cancel;
    let lesion_min_area_um2 = setup.settings.instances.lesions.min_area_um2;
    let mut handles: Vec<Handle<'scope>> = vec![];
    for _ in 0..threads {
        let stage = ReadStage {
            pool: pool.clone(),
            on_tile_error: setup.settings.run.on_tile_error,
            cancel: cancel.clone(),
            leaves_stain: setup.model.normalises_stain(),
            scratch: ReadScratch::default(),
        };
        let (rx, tx) = (tile_rx.clone(), read_tx.clone());
        handles.push(spawn(s, StageName::Pixels, cancel, move || drive(stage, rx, tx, cancel)));
    }
    let stage = BatchStage::new(setup.batch_size);
    handles.push(spawn(s, StageName::Batch, cancel, move || drive(stage, read_rx, batch_tx, cancel)));
    let last_end = (!setup.model.is_one_core()).then(|| Arc::new(Mutex::new(Instant::now())));
    for _ in 0..setup.predictors() {
        let (model, last_end) = (setup.model.clone(), last_end.clone());
        let (tile_px, wanted, keeps_rgb) = (setup.tiler.tile_px, setup.wanted(), setup.keeps_rgb());
        let stage = PredictStage { model, tile_px, wanted, keeps_rgb, last_end };
        let (rx, tx) = (batch_rx.clone(), stitchers.clone());
        handles.push(spawn(s, StageName::Model, cancel, move || {
            // What such a model shares out stays on this thread: none waits for another.
            let _alone = setup.model.is_one_core().then(only_this_thread);
            drive(stage, rx, tx, cancel)
        }));
    }
    for rx in stitch_rxs {
        let stage = StitchStage::new(setup.kind, setup.canvas_maps(), regions.clone(), context.progress.clone());
        let tx = region_tx.clone();
        handles.push(spawn(s, StageName::Stitch, cancel, move || drive(stage, rx, tx, cancel)));
    }
    for _ in 0..setup.extractors() {
        let stage = ExtractStage {
            settings: setup.settings.instances.clone(),
            extractor: setup.extractor,
            mask_factor: setup.mask_factor(),
            spec: setup.model.spec().clone(),
            writes_prob: setup.writes_prob(),
            pool: regions.clone(),
            progress: context.progress.clone(),
        };
        let (rx, tx) = (region_rx.clone(), writers.clone());
        handles.push(spawn(s, StageName::Instances, cancel, move || drive(stage, rx, tx, cancel)));
    }
    for (slot, (rx, writer)) in write_rxs.into_iter().zip(write_txs).enumerate() {
        // Room for the one outcome that can be waiting: the writer never blocks on its feeder.
        let (done_tx, done) = bounded(1);
        let stage = WriteStage::new(setup.kind, lesion_min_area_um2, regions.clone(), cancel.clone());
        handles.push(spawn(s, StageName::Output, cancel, move || drive(stage, rx, done_tx, cancel)));
        let feeder = Feeder { common, slot, tiles: tile_tx.clone(), writer, done };
        handles.push(spawn(s, StageName::Slides, cancel, move || feeder.feed()));
    }
    handles
}

/// Makes the thread that calls the whole of its pool; where the system refuses, work is shared out as ever.
fn only_this_thread() -> Option<ThreadPool> {
    ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().ok()
}

/// A thread of a stage, named after it, whose panic stops the others, too.
fn spawn<'scope, 'env: 'scope>(
    s: &'scope Scope<'scope, 'env>,
    stage: StageName,
    cancel: &'env CancelToken,
    work: impl FnOnce() -> Result<(), RunError> + Send + 'scope,
) -> Handle<'scope> {
    let guarded = move || {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            cancel.abandon();
            std::panic::resume_unwind(panic)
        })
    };
    let thread = std::thread::Builder::new().name(stage.to_string()).spawn_scoped(s, guarded);
    (stage, thread.expect("the system gives threads"))
}
