//! What Ctrl-C and the scheduler's signals do to a run.
//!
//! Owns: [`listen`]. Must not know: how a run stops.

use crate::pipeline::CancelToken;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

/// From here on, the first SIGINT or SIGTERM lets the slides in flight finish, the second drops them, the third ends
/// the process at once. `say` is told what happens.
pub fn listen(cancel: CancelToken, say: impl Fn(&str) + Send + 'static) {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    // The thread sleeps until a signal comes and ends with the process.
    std::thread::spawn(move || {
        for (count, signal) in signals.forever().enumerate() {
            match count {
                0 => say("stopping: slides in flight are finished; once more to drop them"),
                1 => say("stopping: slides in flight are dropped; once more to stop at once"),
                _ => {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
            cancel.request();
        }
    });
}
