//! How long a model takes for a tile, told before any slide is run.
//!
//! Owns: [`secs_per_tile`]. Must not know: slides.

use super::setup::Setup;
use rayon::ThreadPoolBuilder;
use std::time::{Duration, Instant};

/// Nobody waits longer to be told.
const PATIENCE: Duration = Duration::from_secs(20);
/// The first batch finds caches cold and threads asleep.
const BATCHES: u32 = 3;

/// Seconds of a tile when all threads of the run are busy, measured here on tiles of noise; none when the model fails.
pub fn secs_per_tile(setup: &Setup) -> Option<f64> {
    let mut noise = 1_u32;
    let tile: Vec<u8> = (0..setup.tile_bytes())
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .collect();
    let images = vec![&tile[..]; setup.batch_size];
    let (threads, at_once) = if setup.model.is_one_core() { (1, setup.threads()) } else { (0, 1) };
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().ok()?;
    let (began, mut least) = (Instant::now(), None);
    for _ in 0..BATCHES {
        let start = Instant::now();
        pool.install(|| setup.model.forward(&images, setup.tiler.tile_px)).ok()?;
        let took = start.elapsed();
        least = Some(least.map_or(took, |least: Duration| least.min(took)));
        if began.elapsed() > PATIENCE {
            break;
        }
    }
    Some(least?.as_secs_f64() / (images.len() * at_once) as f64)
}
