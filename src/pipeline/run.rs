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
    error::{RunError, SlideError, StageName},
    output::{Artifact, SlideRecord, SlideStatus, SlideWriter},
    pipeline::{
        cancel::CancelToken,
        job::{Failure, SlideJob},
        prepare::{SlidePlan, fit_stain, overview_picture, plan_slide},
        progress::{Progress, SlideEnd},
        record,
        setup::Setup,
        stage::{Router, drive},
        stages::{
            BatchStage, ExtractStage, PredictStage, ReadStage, SlideOutcome, StitchStage, Stitched, TileOutcome,
            TileRef, WriteMessage, WriteStage,
        },
    },
    pixels::{BufferPool, ReadScratch},
    slides::SlideEntry,
    stitch::RegionPool,
};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{Scope, ScopedJoinHandle, scope},
    time::{Duration, Instant},
};

/// How often a waiting feeder looks whether the run was broken off.
const LOOK_AT_TOKEN: Duration = Duration::from_millis(100);

/// What a run needs beside its settings.
#[derive(Clone)]
pub struct RunContext {
    /// Asks the run to stop.
    pub cancel: CancelToken,
    /// Is told what happens.
    pub progress: Arc<dyn Progress>,
}

/// What remains of a run.
#[derive(Debug)]
pub struct RunSummary {
    /// The slides that were started, in the order of the slide list.
    pub slides: Vec<SlideResult>,
    /// Slides that were not started because the run was asked to stop.
    pub not_started: usize,
    /// Whether the run was asked to stop.
    pub is_interrupted: bool,
}

/// What remains of a slide.
#[derive(Debug, Clone)]
pub struct SlideResult {
    /// Its row of `slides.parquet`.
    pub record: SlideRecord,
    /// Its files and directories.
    pub artifacts: Vec<Artifact>,
}

/// What the feeders gather: index into the slide list, result.
type Results = Mutex<Vec<(usize, SlideResult)>>;

/// The ends of the queues a feeder needs.
struct Feeder<'a> {
    setup: &'a Setup,
    context: &'a RunContext,
    entries: &'a [SlideEntry],
    next: &'a AtomicUsize,
    results: &'a Results,
    slot: usize,
    tiles: Sender<TileRef>,
    writer: Sender<WriteMessage>,
    done: Receiver<SlideOutcome>,
}

/// Runs every slide of `entries`.
///
/// # Errors
/// [`RunError`] when the run cannot go on; slides finished before it keep their outputs.
pub fn run(setup: &Setup, entries: &[SlideEntry], context: &RunContext) -> Result<RunSummary, RunError> {
    context.progress.run_started(entries.len() as u64);
    let results = Mutex::new(vec![]);
    let next = AtomicUsize::new(0);
    let result = scope(|s| {
        let handles = spawn_all(s, setup, entries, context, &next, &results);
        // Every thread is waited for; the first error is the run's.
        let ends: Vec<Result<(), RunError>> = handles.into_iter().map(join).collect();
        ends.into_iter().collect::<Result<(), RunError>>()
    });
    context.progress.run_finished();
    result?;
    let mut results = results.into_inner().expect("no thread panicked while it held the results");
    results.sort_by_key(|(index, _)| *index);
    let slides: Vec<_> = results.into_iter().map(|(_, result)| result).collect();
    let not_started = entries.len() - slides.len();
    Ok(RunSummary { slides, not_started, is_interrupted: context.cancel.is_cancelled() })
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
fn spawn_all<'scope, 'env: 'scope>(
    s: &'scope Scope<'scope, 'env>,
    setup: &'env Setup,
    entries: &'env [SlideEntry],
    context: &'env RunContext,
    next: &'env AtomicUsize,
    results: &'env Results,
) -> Vec<Handle<'scope>> {
    let (threads, slots) = (setup.threads(), setup.slots());
    let pool = BufferPool::new(setup.pool_buffers(), setup.tile_bytes());
    let regions = Arc::new(RegionPool::new(threads + 2));
    let (tile_tx, tile_rx) = bounded(4);
    let (read_tx, read_rx) = bounded(2 * threads);
    let (batch_tx, batch_rx) = bounded(2);
    let (region_tx, region_rx) = bounded::<Stitched>(2);
    let (stitch_txs, stitch_rxs): (Vec<_>, Vec<_>) = (0..slots).map(|_| bounded(4)).unzip();
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
            scratch: ReadScratch::default(),
        };
        let (rx, tx) = (tile_rx.clone(), read_tx.clone());
        handles.push((StageName::Pixels, spawn(s, cancel, move || drive(stage, rx, tx, cancel))));
    }
    let stage = BatchStage::new(setup.batch_size);
    handles.push((StageName::Batch, spawn(s, cancel, move || drive(stage, read_rx, batch_tx, cancel))));
    for _ in 0..setup.predictors() {
        let stage =
            PredictStage { model: setup.model.clone(), tile_px: setup.tiler.tile_px, core_px: setup.tiler.core_px() };
        let (rx, tx) = (batch_rx.clone(), stitchers.clone());
        handles.push((StageName::Model, spawn(s, cancel, move || drive(stage, rx, tx, cancel))));
    }
    for rx in stitch_rxs {
        let stage = StitchStage::new(setup.kind, setup.heads(), regions.clone(), context.progress.clone());
        let tx = region_tx.clone();
        handles.push((StageName::Stitch, spawn(s, cancel, move || drive(stage, rx, tx, cancel))));
    }
    for _ in 0..threads {
        let stage = ExtractStage {
            settings: setup.settings.instances.clone(),
            extractor: setup.extractor,
            spec: setup.model.spec().clone(),
            writes_prob: setup.settings.output.ome_zarr.as_ref().is_some_and(|z| z.prob),
            pool: regions.clone(),
            progress: context.progress.clone(),
        };
        let (rx, tx) = (region_rx.clone(), writers.clone());
        handles.push((StageName::Instances, spawn(s, cancel, move || drive(stage, rx, tx, cancel))));
    }
    for (slot, (rx, writer)) in write_rxs.into_iter().zip(write_txs).enumerate() {
        // Room for the one outcome that can be waiting: the writer never blocks on its feeder.
        let (done_tx, done) = bounded(1);
        let stage = WriteStage::new(setup.kind, lesion_min_area_um2, regions.clone());
        handles.push((StageName::Output, spawn(s, cancel, move || drive(stage, rx, done_tx, cancel))));
        let feeder = Feeder { setup, context, entries, next, results, slot, tiles: tile_tx.clone(), writer, done };
        handles.push((StageName::Slides, spawn(s, cancel, move || feeder.feed())));
    }
    handles
}

/// A thread whose panic stops the others, too.
fn spawn<'scope, 'env: 'scope>(
    s: &'scope Scope<'scope, 'env>,
    cancel: &'env CancelToken,
    work: impl FnOnce() -> Result<(), RunError> + Send + 'scope,
) -> ScopedJoinHandle<'scope, Result<(), RunError>> {
    s.spawn(move || {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            cancel.abandon();
            std::panic::resume_unwind(panic)
        })
    })
}

impl Feeder<'_> {
    /// Takes slides from the list until it is empty or the run is asked to stop.
    fn feed(self) -> Result<(), RunError> {
        while self.context.cancel.admits_slides() {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = self.entries.get(index) else { break };
            let start = Instant::now();
            let Some(mut result) = self.one_slide(entry) else { break };
            let secs = start.elapsed().as_secs_f64();
            let record = &mut result.record;
            record.wall_secs = Some(secs);
            record.peak_rss_bytes = peak_rss_bytes();
            self.context.progress.slide_finished(&SlideEnd {
                slide: &record.id,
                status: record.status.unwrap_or(SlideStatus::Failed),
                error: record.error.as_deref(),
                hint: record.hint.as_deref(),
                secs,
                instances: record.instances,
            });
            self.results.lock().expect("no thread panics while it holds the results").push((index, result));
        }
        Ok(())
    }

    /// One slide from opening to its record; nothing when the run broke off under it.
    fn one_slide(&self, entry: &SlideEntry) -> Option<SlideResult> {
        let failed = |record| Some(SlideResult { record, artifacts: vec![] });
        let planned = catch_unwind(AssertUnwindSafe(|| plan_slide(entry, self.setup)))
            .unwrap_or_else(|_| Err(SlideError::new(StageName::Slides, "opening the slide panicked")));
        let mut plan = match planned {
            Ok(plan) => plan,
            Err(error) => return failed(record::of_unopened(entry, &error)),
        };
        match self.start(&mut plan) {
            Ok((job, stain)) => {
                for index in 0..job.plan.tiles.len() {
                    self.tiles.send(TileRef { job: job.clone(), index }).ok()?;
                }
                if job.plan.tiles.is_empty() {
                    self.writer.send(WriteMessage::Ended(job)).ok()?;
                }
                let outcome = self.wait()?;
                let record = record::of_outcome(&plan, &outcome, &stain);
                Some(SlideResult { record, artifacts: outcome.committed.map_or(vec![], |c| c.artifacts) })
            }
            Err(error) => failed(record::of_planned(&plan, &error)),
        }
    }

    /// Waits for the writer's word on the slide. The feeder holds a sender of the writer's queue, so a broken run
    /// cannot show as a closed queue: the token is looked at.
    fn wait(&self) -> Option<SlideOutcome> {
        loop {
            match self.done.recv_timeout(LOOK_AT_TOKEN) {
                Ok(outcome) => return Some(outcome),
                Err(RecvTimeoutError::Timeout) if !self.context.cancel.is_abandoned() => {}
                Err(_) => return None,
            }
        }
    }

    fn start(&self, plan: &mut SlidePlan) -> Result<(Arc<SlideJob>, String), SlideError> {
        let setup = self.setup;
        if let Some(limit) = setup.settings.run.memory_bytes {
            let needed = setup.flow_bytes() + plan.slide_bytes(setup) * setup.slots() as u64;
            if needed > limit {
                let mib = |b: u64| b.div_ceil(1 << 20);
                return Err(SlideError::new(
                    StageName::Tiling,
                    format!("plan needs {} MiB, `run.memory` allows {} MiB", mib(needed), mib(limit)),
                )
                .hint("lower `run.slides_in_flight`, `run.threads` or `tiling.tile_px`, or raise `run.memory`"));
            }
        }
        let stain = fit_stain(plan, setup);
        let stain_word = match (&stain.flag, stain.method) {
            (Some(why), _) => format!("identity: {why}"),
            (None, "none") => "off".to_owned(),
            (None, _) => "fitted".to_owned(),
        };
        let picture = overview_picture(plan, setup);
        let writer = SlideWriter::create(
            plan.header.clone(),
            setup.kind,
            &setup.settings.output,
            &plan.tissue.mask,
            picture,
            &|rect| plan.tiles.cells.intersects(rect),
        )
        .map_err(|e| SlideError::new(StageName::Output, e))?;
        let job =
            SlideJob::new(self.slot, plan.header.clone(), plan.reader.clone(), plan.tiles.clone(), stain.transform);
        let job = Arc::new(job);
        self.context.progress.slide_started(&job.header.id, job.plan.tiles.len() as u64);
        if self.writer.send(WriteMessage::Start(job.clone(), Box::new(writer))).is_err() {
            job.fail(Failure::Interrupted);
        }
        Ok((job, stain_word))
    }
}

/// Most memory the process has had, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? << 10)
}
