//! `run`: limits of the run.
//!
//! Owns: the keys under `run` and their type. Must not know: threads, memory.

use crate::config::key::{Key, Kind, Preset};
use crate::config::settings;
use serde::Deserialize;

/// `run.threads`, of training files too.
pub(super) const THREADS: Key = Key::value(
    "run.threads",
    Kind::Int { min: 1, max: 1024, step: 1 },
    Preset::Found("the CPUs this process may use: affinity, cgroup and Slurm", "4"),
    "",
    "compute threads; also the environment variable WSI_RUN_THREADS",
);

/// `run.time_limit_secs`, of training files too.
pub(super) const fn time_limit_secs(meaning: &'static str) -> Key {
    let kind = Kind::Int { min: 1, max: 31_536_000, step: 1 };
    Key::value("run.time_limit_secs", kind, Preset::Unset("28800"), "s", meaning)
}

pub(super) const KEYS: &[Key] = &[
    Key::section("run", "limits of the run"),
    THREADS,
    Key::plain(
        "run.slides_in_flight",
        Kind::Int { min: 1, max: 64, step: 1 },
        "2",
        "slides worked on at the same time",
    ),
    Key::value(
        "run.memory",
        Kind::Bytes { min: 64 << 20 },
        Preset::Unset("4GiB"),
        "",
        "most memory a slide's plan may ask for; a slide that needs more fails before it is read",
    ),
    Key::plain(
        "run.on_tile_error",
        Kind::OneOf(&["fail_slide", "leave_uncomputed"]),
        "leave_uncomputed",
        "what an unreadable tile does: its slide fails, or its pixels are marked 255 and counted",
    ),
    time_limit_secs(
        "when the run ends, whatever is left: no slide starts that would not be done in time, and those in flight keep \
         what they have for the next run",
    ),
    Key::value(
        "run.max_failures",
        Kind::Int { min: 1, max: 1_000_000_000, step: 1 },
        Preset::Unset("10"),
        "",
        "after so many failed slides no other is started",
    ),
    Key::value(
        "run.settle_secs",
        Kind::Int { min: 0, max: 86_400, step: 1 },
        Preset::Is("3"),
        "s",
        "a slide that changed less than this long ago may still be being copied: the run comes back to it, or leaves it \
         for the next",
    ),
    Key::value(
        "run.lease_secs",
        Kind::Int { min: 1, max: 86_400, step: 1 },
        Preset::Is("60"),
        "s",
        "a slide whose process, on another host, gave no sign of life for so long is taken over",
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
/// time_limit_secs: 28800
/// max_failures: 10
/// settle_secs: 3
/// lease_secs: 60
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
    time_limit_secs: Option<u64>,
    max_failures: Option<u32>,
    settle_secs: u32,
    lease_secs: u32,
}

impl Run {
    pub(super) fn into_settings(self, threads: u32) -> settings::Run {
        settings::Run {
            threads: self.threads.unwrap_or(threads),
            slides_in_flight: self.slides_in_flight,
            memory_bytes: self.memory,
            on_tile_error: self.on_tile_error,
            time_limit_secs: self.time_limit_secs,
            max_failures: self.max_failures,
            settle_secs: self.settle_secs,
            lease_secs: self.lease_secs,
        }
    }
}
