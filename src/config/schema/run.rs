//! `run`: limits of the run.
//!
//! Owns: the keys under `run` and their type. Must not know: threads, memory.

use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;

pub(super) const KEYS: &[Key] = &[
    Key::section("run", "limits of the run"),
    Key::value(
        "run.threads",
        Kind::Int { min: 1, max: 1024, step: 1 },
        Preset::Found("the CPUs this process may use: affinity, cgroup and Slurm", "4"),
        "",
        "compute threads; also the environment variable WSI_RUN_THREADS",
    ),
    Key::value(
        "run.slides_in_flight",
        Kind::Int { min: 1, max: 64, step: 1 },
        Preset::Is("2"),
        "",
        "slides worked on at the same time",
    ),
    Key::value(
        "run.memory",
        Kind::Bytes { min: 64 << 20 },
        Preset::Unset("4GiB"),
        "",
        "most memory a slide's plan may ask for; a slide that needs more fails before it is read",
    ),
    Key::value(
        "run.on_tile_error",
        Kind::OneOf(&["fail_slide", "leave_uncomputed"]),
        Preset::Is("leave_uncomputed"),
        "",
        "what an unreadable tile does: its slide fails, or its pixels are marked 255 and counted",
    ),
];

/// `run`.
///
/// ```
/// let run: wsi_run::config::schema::Run = serde_saphyr::from_str(r#"
/// threads: 4
/// slides_in_flight: 2
/// memory: 4294967296
/// on_tile_error: leave_uncomputed
/// "#)?;
/// # Ok::<(), serde_saphyr::Error>(())
/// ```
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    threads: Option<u32>,
    slides_in_flight: u32,
    memory: Option<u64>,
    on_tile_error: settings::OnTileError,
}

impl Run {
    pub(super) fn into_settings(self, threads: u32) -> settings::Run {
        settings::Run {
            threads: self.threads.unwrap_or(threads),
            slides_in_flight: self.slides_in_flight,
            memory_bytes: self.memory,
            on_tile_error: self.on_tile_error,
        }
    }
}
