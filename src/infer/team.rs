//! Threads that run the steps of an image together.
//!
//! Owns: [`Team`], [`share_out`]. Must not know: what a step is.
//!
//! An image has some hundred steps, many of them shorter than it takes to wake a thread. So the threads of a team wait
//! for each other awake, and give the core away only after a while. Whoever has no image of its own joins the smallest
//! team; a team whose leader is alone shares nothing.

use rayon::prelude::*;
use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// Looks before a waiting thread lets others have its core; some 3 µs. Somebody else may be waiting for it with the last
/// band of the step.
const LOOKS: u32 = 200;
/// Bits of [`Team::state`] that a number of bands takes.
const BITS: u32 = 16;

/// What the bands of a step do.
type Bands = *const (dyn Fn(usize) + Sync);

/// A leader, who goes from step to step, and those who take bands of its steps.
pub(super) struct Team {
    is_led: AtomicBool,
    helpers: AtomicUsize,
    /// From the highest bit on: the step, the bands that were taken of it, its bands.
    state: AtomicU64,
    /// Bands of the step that are done.
    done: AtomicUsize,
    /// Whether a band panicked.
    has_failed: AtomicBool,
    /// What the step does; the leader's.
    bands: UnsafeCell<Option<Bands>>,
}

// SAFETY: `bands` is written by the leader alone, between two steps, and read by those who took a band of a step: the
// state they took it from was stored after it, and the leader waits for them before it goes on.
unsafe impl Sync for Team {}
// SAFETY: what `bands` points to may be called from any thread.
unsafe impl Send for Team {}

impl Team {
    /// One that nobody helps.
    pub(super) fn new() -> Self {
        Self {
            is_led: AtomicBool::new(false),
            helpers: AtomicUsize::new(0),
            state: AtomicU64::new(0),
            done: AtomicUsize::new(0),
            has_failed: AtomicBool::new(false),
            bands: UnsafeCell::new(None),
        }
    }

    /// Threads that share the next step.
    pub(super) fn members(&self) -> usize {
        1 + self.helpers.load(Ordering::Relaxed)
    }

    /// Runs `f` on each of `0..count` once, on the threads of the team; back when all are done. The leader calls it.
    ///
    /// # Panics
    /// When `f` does.
    pub(super) fn share(&self, count: usize, f: &(dyn Fn(usize) + Sync)) {
        assert!(count < 1 << BITS, "steps have few bands");
        // SAFETY: only the lifetime is another one; nobody calls `f` after `Step` was dropped.
        let f = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Bands>(f) };
        let step = self.start(count, f);
        while self.run_one() {}
        drop(step);
        assert!(!self.has_failed.load(Ordering::Relaxed), "another thread of the team panicked");
    }

    fn start(&self, count: usize, f: Bands) -> Step<'_> {
        // SAFETY: nobody has a band now: those of the last step are done, and this one has none yet.
        unsafe { *self.bands.get() = Some(f) };
        self.done.store(0, Ordering::Relaxed);
        let step = (self.state.load(Ordering::Relaxed) >> (2 * BITS)).wrapping_add(1);
        self.state.store(step << (2 * BITS) | count as u64, Ordering::Release);
        Step { team: self }
    }

    /// Takes a band and runs it, if one is left.
    fn run_one(&self) -> bool {
        let take = |state: u64| (taken(state) < state & MASK).then_some(state + (1 << BITS));
        let Ok(state) = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) else { return false };
        let _done = Done { team: self };
        // SAFETY: a band was taken, so the leader waits in `share` until `_done` says that it is done.
        let f = unsafe { (*self.bands.get()).map(|f| &*f) }.expect("a step with bands says what they do");
        f(taken(state) as usize);
        true
    }

    /// Takes bands as long as somebody leads.
    fn help(&self) {
        self.helpers.fetch_add(1, Ordering::Relaxed);
        let _member = Member { team: self };
        let mut wait = Wait::default();
        while self.is_led.load(Ordering::Acquire) {
            if self.run_one() {
                wait = Wait::default();
            } else {
                wait.a_little();
            }
        }
    }
}

const MASK: u64 = (1 << BITS) - 1;

fn taken(state: u64) -> u64 {
    (state >> BITS) & MASK
}

/// A step under way: ends when nobody has a band of it.
struct Step<'a> {
    team: &'a Team,
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        // Where the leader panics, bands are left, which nobody may take any more.
        let none_left = |state: u64| Some(state & !MASK);
        let closed = self.team.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, none_left);
        let taken = taken(closed.unwrap_or_else(|state| state)) as usize;
        let mut wait = Wait::default();
        while self.team.done.load(Ordering::Acquire) < taken {
            wait.a_little();
        }
    }
}

/// A band under way.
struct Done<'a> {
    team: &'a Team,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.team.has_failed.store(true, Ordering::Relaxed);
        }
        self.team.done.fetch_add(1, Ordering::Release);
    }
}

/// A helper's place.
struct Member<'a> {
    team: &'a Team,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.team.helpers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A leader's place.
struct Lead<'a> {
    team: &'a Team,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.team.is_led.store(false, Ordering::Release);
    }
}

/// Patience of a thread that waits.
#[derive(Default)]
struct Wait {
    looks: u32,
}

impl Wait {
    fn a_little(&mut self) {
        if self.looks < LOOKS {
            self.looks += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// Calls `lead` with each of `0..items` once and a team for its steps, at most `at_once` at a time, on the threads of the
/// rayon pool it is called in.
///
/// # Panics
/// When `lead` does.
pub(super) fn share_out(items: usize, at_once: usize, lead: &(dyn Fn(usize, &Team) + Sync)) {
    let threads = rayon::current_num_threads();
    let teams: Vec<Team> = (0..at_once.clamp(1, threads)).map(|_| Team::new()).collect();
    let next = AtomicUsize::new(0);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|item| *item < items);
    let work = || {
        if let Some(team) = teams.iter().find(|team| !team.is_led.swap(true, Ordering::AcqRel)) {
            let _lead = Lead { team };
            std::iter::from_fn(take).for_each(|item| lead(item, team));
        }
        let led = || teams.iter().filter(|team| team.is_led.load(Ordering::Relaxed));
        while let Some(team) = led().min_by_key(|team| team.members()) {
            team.help();
        }
    };
    if threads == 1 {
        return work();
    }
    (0..threads).into_par_iter().with_max_len(1).for_each(|_| work());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, sync::Mutex, thread::ThreadId};

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn every_band_of_every_step_is_run_once_and_before_the_next_step() {
        for (items, at_once, threads) in [(1, 1, 1), (1, 1, 4), (7, 2, 4), (5, 4, 4), (3, 9, 2), (0, 1, 3)] {
            let counts: Vec<Vec<AtomicUsize>> =
                (0..items).map(|_| (0..40).map(|_| AtomicUsize::new(0)).collect()).collect();
            pool(threads).install(|| {
                share_out(items, at_once, &|item, team| {
                    for step in 0..300 {
                        let bands = 1 + (step * 7) % 40;
                        team.share(bands, &|band| {
                            // A band of a step finds those before it done.
                            let before = (0..step).filter(|s| (s * 7) % 40 >= band).count();
                            assert_eq!(counts[item][band].fetch_add(1, Ordering::Relaxed), before);
                        });
                    }
                });
            });
            for (band, count) in counts.iter().flat_map(|item| item.iter().enumerate()) {
                assert_eq!(count.load(Ordering::Relaxed), (0..300).filter(|s| (s * 7) % 40 >= band).count());
            }
        }
    }

    #[test]
    fn no_more_items_are_in_work_than_said_and_threads_without_one_help() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let who: Mutex<HashSet<ThreadId>> = Mutex::default();
        pool(4).install(|| {
            share_out(6, 2, &|_, team| {
                most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                for _ in 0..50 {
                    team.share(8, &|_| {
                        who.lock().unwrap().insert(std::thread::current().id());
                        std::thread::sleep(std::time::Duration::from_micros(200));
                    });
                }
                now.fetch_sub(1, Ordering::SeqCst);
            });
        });
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert_eq!(who.into_inner().unwrap().len(), 4);
    }

    #[test]
    fn a_panic_in_a_band_reaches_the_caller_whoever_had_it() {
        for band_that_fails in [0, 3, 63] {
            let caught = std::panic::catch_unwind(|| {
                pool(3).install(|| {
                    share_out(4, 1, &|item, team| {
                        team.share(64, &|band| {
                            std::thread::sleep(std::time::Duration::from_micros(50));
                            assert!(item != 2 || band != band_that_fails, "as asked");
                        });
                    });
                });
            });
            assert!(caught.is_err(), "{band_that_fails}");
        }
    }
}
