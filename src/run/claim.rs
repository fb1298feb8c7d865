//! Who works on what, when any number of processes on any number of hosts share one output directory.
//!
//! Owns: [`Claims`], [`Claim`], [`Owner`]. Must not know: what is claimed.
//!
//! A claim is the file `<name>~0`, made by exclusive creation, which also network file systems do for one only. Its
//! owner renews its modification time; times are compared by the clock of the file system, so hosts need not agree.
//! A claim whose owner is silent for the lease (or, on the same host, has died) is taken over by exclusive creation
//! of `<name>~1`, and so on: whoever has the highest number is the owner, and only one can make it. An owner that
//! comes back finds the higher number and lets go. Should two believe for a moment that they own a slide, both make
//! the same bytes, in places of their own, and put them in place whole.

use super::state::StateDir;
use crate::output::{OutputError, is_over, life_of, unique_token};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

/// A process, in words that another host understands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owner {
    /// Host name.
    pub host: String,
    /// Process id there.
    pub pid: u32,
    /// Which start of the host, which space of process ids, and when the process began: tells a process from a later
    /// one of the same number.
    pub life: String,
    /// Which claim of the process.
    pub token: String,
}

impl Owner {
    /// This process.
    pub fn this() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let pid = std::process::id();
        Self { host, pid, life: life_of(pid).unwrap_or_default(), token: unique_token() }
    }

    /// Whether it is known to be dead: it lived where this process lives, and is no longer there.
    pub fn is_dead(&self) -> bool {
        is_over(self.pid, &self.life) == Some(true)
    }
}

/// What came of trying to take a claim.
#[derive(Debug)]
pub enum Taking {
    /// It is this process's.
    Mine(Claim),
    /// Somebody is at work.
    Busy(Owner),
}

/// The claims of an output directory.
#[derive(Debug, Clone)]
pub struct Claims {
    state: StateDir,
    dir: PathBuf,
    lease: Duration,
}

/// A claim this process holds, until it is dropped or lost.
#[derive(Debug, Clone)]
pub struct Claim(Arc<Held>);

#[derive(Debug)]
struct Held {
    dir: PathBuf,
    name: String,
    number: u32,
    token: String,
    lost: AtomicBool,
}

impl Claims {
    /// Claims to slides, given up after `lease` without a sign of life.
    pub fn new(state: &StateDir, lease: Duration) -> Self {
        Self { state: state.clone(), dir: state.path("claims"), lease }
    }

    /// Claims to the output directory as a whole.
    pub fn locks(state: &StateDir, lease: Duration) -> Self {
        Self { state: state.clone(), dir: state.path("locks"), lease }
    }

    /// How often a claim is to be renewed.
    pub fn beat(&self) -> Duration {
        (self.lease / 6).max(Duration::from_millis(50))
    }

    /// Numbers of the claims of `name`, rising.
    fn numbers(&self, name: &str) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return vec![] };
        let number = |entry: fs::DirEntry| {
            let file = entry.file_name().into_string().ok()?;
            file.rsplit_once('~').filter(|(of, _)| *of == name)?.1.parse().ok()
        };
        let mut numbers: Vec<u32> = entries.flatten().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Who holds claim `number` of `name`, and whether the claim is still good; none when it has gone.
    fn look(&self, name: &str, number: u32) -> Option<(Owner, bool)> {
        let path = self.dir.join(format!("{name}~{number}"));
        // Opened, not asked by name: network file systems then ask the server.
        let file = File::open(path).ok()?;
        let owner: Owner = serde_json::from_reader(&file).unwrap_or_default();
        if owner.is_dead() {
            return Some((owner, false));
        }
        let modified = file.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos() as i128;
        let age = self.state.now_ns().map_or(0, |now| now - modified);
        Some((owner, age < self.lease.as_nanos() as i128))
    }

    /// Who holds `name`, if anybody does.
    pub fn owner(&self, name: &str) -> Option<Owner> {
        let number = *self.numbers(name).last()?;
        self.look(name, number).filter(|(_, is_good)| *is_good).map(|(owner, _)| owner)
    }

    /// Tries to take `name`.
    ///
    /// # Errors
    /// [`OutputError`] of the file system.
    pub fn take(&self, name: &str) -> Result<Taking, OutputError> {
        fs::create_dir_all(&self.dir).map_err(|source| OutputError::Io { path: self.dir.clone(), source })?;
        let mut number = 0;
        if let Some(&last) = self.numbers(name).last()
            && let Some((owner, is_good)) = self.look(name, last)
        {
            if is_good {
                return Ok(Taking::Busy(owner));
            }
            number = last + 1;
        }
        let me = Owner::this();
        let path = self.dir.join(format!("{name}~{number}"));
        let io = |source| OutputError::Io { path: path.clone(), source };
        let mut file = match File::options().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                return Ok(Taking::Busy(self.look(name, number).map_or(Owner::default(), |(owner, _)| owner)));
            }
            Err(e) => return Err(io(e)),
        };
        let written = file.write_all(&serde_json::to_vec(&me).expect("an owner has only string keys"));
        if written.is_err() {
            // A claim that does not say whose it is would be waited for.
            let _ = fs::remove_file(&path);
        }
        written.map_err(io)?;
        let held =
            Held { dir: self.dir.clone(), name: name.into(), number, token: me.token, lost: AtomicBool::new(false) };
        Ok(Taking::Mine(Claim(Arc::new(held))))
    }

    /// Every claim that is good, with its owner.
    pub fn all(&self) -> Vec<(String, Owner)> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return vec![] };
        let name = |entry: fs::DirEntry| Some(entry.file_name().into_string().ok()?.rsplit_once('~')?.0.to_owned());
        let names: std::collections::BTreeSet<String> = entries.flatten().filter_map(name).collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.owner(&name)?))).collect()
    }
}

impl Claim {
    /// Says that the owner is alive, and finds out whether it still is the owner.
    pub fn renew(&self) {
        if let Some(file) = self.0.mine() {
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            // One that cannot be renewed runs out, and is taken over.
            let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        }
    }

    /// Whether this process still is the owner, as far as the file system tells.
    pub fn is_held(&self) -> bool {
        self.0.mine().is_some()
    }

    /// Whether this is the claim that `owner` speaks of.
    pub fn is_of(&self, owner: &Owner) -> bool {
        owner.token == self.0.token
    }

    /// Whether the last look said that it is no longer the owner. Costs nothing.
    pub fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Acquire)
    }
}

impl Held {
    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{}~{number}", self.name))
    }

    /// The claim's file, while it is this claim's and nobody has a higher one.
    fn mine(&self) -> Option<File> {
        let file = File::options().read(true).write(true).open(self.path(self.number)).ok().filter(|file| {
            let owner = serde_json::from_reader::<_, Owner>(file);
            owner.is_ok_and(|owner| owner.token == self.token) && !self.path(self.number + 1).exists()
        });
        if file.is_none() {
            self.lost.store(true, Ordering::Release);
        }
        file
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.mine().is_some() {
            // The highest last: until then nobody can take a lower number for good.
            (0..=self.number).for_each(|number| drop(fs::remove_file(self.path(number))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(dir: &std::path::Path, lease_millis: u64) -> Claims {
        Claims::new(&StateDir::new(dir), Duration::from_millis(lease_millis))
    }

    fn mine(taking: Taking) -> Claim {
        match taking {
            Taking::Mine(claim) => claim,
            Taking::Busy(owner) => panic!("{owner:?} has it"),
        }
    }

    #[test]
    fn one_owner_at_a_time_and_the_next_when_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let claims = claims(dir.path(), 60_000);
        let first = mine(claims.take("a~b").unwrap());
        assert!(matches!(claims.take("a~b").unwrap(), Taking::Busy(owner) if owner.pid == std::process::id()));
        let _other = mine(claims.take("a").unwrap());
        drop(first);
        let _second = mine(claims.take("a~b").unwrap());
        assert_eq!(claims.all().len(), 2);
    }

    #[test]
    fn a_silent_owner_loses_its_claim_and_finds_out_and_a_renewed_one_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let claims = claims(dir.path(), 300);
        let silent = mine(claims.take("a").unwrap());
        let alive = mine(claims.take("b").unwrap());
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(100));
            alive.renew();
        }
        assert!(matches!(claims.take("b").unwrap(), Taking::Busy(_)));
        assert!(!silent.is_lost());
        let next = mine(claims.take("a").unwrap());
        silent.renew();
        assert!(silent.is_lost() && !silent.is_held() && next.is_held());
        drop(silent);
        assert!(next.is_held(), "a lost claim must not free another's");
        drop((next, alive));
        assert!(claims.all().is_empty() && claims.numbers("a").is_empty());
    }

    #[test]
    fn a_dead_owner_on_this_host_is_followed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let claims = claims(dir.path(), 3_600_000);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let owner = Owner { pid: child.id(), life: life_of(child.id()).unwrap(), ..Owner::this() };
        fs::create_dir_all(&claims.dir).unwrap();
        fs::write(claims.dir.join("a~0"), serde_json::to_vec(&owner).unwrap()).unwrap();
        assert!(matches!(claims.take("a").unwrap(), Taking::Busy(_)));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(mine(claims.take("a").unwrap()));
        // An owner of another host is waited for.
        fs::write(claims.dir.join("a~0"), serde_json::to_vec(&Owner { life: "x y 1".into(), ..owner }).unwrap())
            .unwrap();
        assert!(matches!(claims.take("a").unwrap(), Taking::Busy(_)));
    }

    #[test]
    fn of_many_that_want_a_dead_owners_slide_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let claims = claims(dir.path(), 100);
        for round in 0..20 {
            let name = format!("slide {round}");
            std::mem::forget(mine(claims.take(&name).unwrap()));
            std::thread::sleep(Duration::from_millis(if round == 0 { 150 } else { 110 }));
            let slow = self::claims(dir.path(), 100);
            let taken: Vec<Taking> = std::thread::scope(|s| {
                let takers: Vec<_> = (0..8).map(|_| s.spawn(|| slow.take(&name).unwrap())).collect();
                takers.into_iter().map(|t| t.join().unwrap()).collect()
            });
            assert_eq!(taken.iter().filter(|t| matches!(t, Taking::Mine(_))).count(), 1);
        }
    }
}
