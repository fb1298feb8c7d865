//! Times as users write them.
//!
//! Owns: [`seconds`]. Must not know: what they are for.

/// `90`, `90s`, `15m`, `12h`, `2d`, `1h30m`, `12:00:00` or `1-12:00:00` in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("found `{text}`, expected a time such as `90m`, `12h`, `12:00:00` or seconds");
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let mut total: u64 = days.parse::<u64>().map_err(|_| wrong())?.checked_mul(86_400).ok_or_else(wrong)?;
    if clock.contains(':') {
        let fields: Vec<u64> = clock.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let clock = match fields[..] {
            [m, s] if s < 60 => m.checked_mul(60).and_then(|m| m.checked_add(s)),
            [h, m, s] if m < 60 && s < 60 => h.checked_mul(3600).and_then(|h| h.checked_add(m * 60 + s)),
            _ => None,
        };
        return clock.and_then(|clock| total.checked_add(clock)).filter(|&t| t > 0).ok_or_else(wrong);
    }
    let mut rest = clock;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = match rest[digits..].chars().next() {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some(_) => return Err(wrong()),
        };
        total = number.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(wrong)?;
        rest = rest.get(digits + 1..).unwrap_or("");
    }
    if total == 0 { Err(wrong()) } else { Ok(total) }
}
