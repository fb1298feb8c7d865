//! Amounts as one says them.
//!
//! Owns: [`bytes`], [`counted`]. Must not know: of what.

/// `1 slide`, `2 slides`.
pub fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// `12 kB`, `340 MB`, `1.5 GB`.
pub fn bytes(n: u64) -> String {
    match n {
        0..=999_999 => format!("{:.0} kB", n as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.0} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}
