//! Which process a file is of, and whether it still lives.
//!
//! Owns: [`life_of`], [`is_over`]. Must not know: what the process does.

use std::fs;

/// Which start of the host, which space of process ids, and when process `pid` began: tells a process from a later one
/// of the same number. None where it does not live, or `/proc` does not say.
pub fn life_of(pid: u32) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = fs::read_link("/proc/self/ns/pid").ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; of what follows it the state is first, the start is the 20th.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = fields.clone().next() == Some("Z");
    let start = fields.nth(19)?;
    (!is_dead).then(|| format!("{} {} {start}", boot.trim(), space.display()))
}

/// Whether the process `pid` of `life` is over; none when it lived where this process cannot see.
pub fn is_over(pid: u32, life: &str) -> Option<bool> {
    let place = |life: &str| life.rsplit_once(' ').map(|(place, _)| place.to_owned());
    let mine = life_of(std::process::id())?;
    (place(life).is_some() && place(&mine) == place(life)).then(|| life_of(pid).as_deref() != Some(life))
}
