//! What Ctrl-C and the scheduler's signals do to a run.
//!
//! Owns: [`listen`], [`listen_training`]. Must not know: how a run stops.

use crate::pipeline::{CancelToken, StopReason};
use signal_hook::{
    consts::{SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};

/// From here on, the first SIGINT or SIGTERM lets the slides in flight finish, the second drops them, the third ends
/// the process at once. SIGUSR1 says that time is nearly up: slides in flight are dropped, and what they have is kept
/// for the next run. `say` is told what happens.
pub fn listen(cancel: CancelToken, say: impl Fn(&str) + Send + 'static) {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGUSR1]) else { return };
    // The thread sleeps until a signal comes and ends with the process.
    std::thread::spawn(move || {
        let mut count = 0;
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                say("time is up: the next run goes on with the slides in flight");
                cancel.stop(StopReason::Time, true);
                continue;
            }
            match count {
                0 => say("stopping: slides in flight are finished; once more to drop them"),
                1 => say("stopping: slides in flight are dropped; once more to stop at once"),
                _ => {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
            count += 1;
            cancel.request();
        }
    });
}

/// From here on, the first SIGINT, SIGTERM or SIGUSR1 lets the step that is being made finish and keeps everything; the
/// second ends the process at once, and what was kept before is what the next one goes on from.
pub fn listen_training(cancel: CancelToken, say: impl Fn(&str) + Send + 'static) {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGUSR1]) else { return };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if !cancel.admits_slides() && signal != SIGUSR1 {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
            say("stopping after this step: the same command goes on; once more to stop at once");
            match signal {
                SIGUSR1 => cancel.stop(StopReason::Time, false),
                _ => cancel.request(),
            }
        }
    });
}
