//! "Did you mean": the nearest of the words that would have been right.
//!
//! Owns: [`nearest`]. Must not know: keys.
//! Source: Damerau 1964 (optimal string alignment: insertion, deletion, substitution, swap of neighbours).

/// The candidate nearest to `word`, when one is near enough to be a slip of the pen.
///
/// Near is: the same but for case, `-` and `_`; one begins with the other (`stride`, `stride_px`); or an edit distance
/// of at most a third of the word.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |s: &str| s.to_lowercase().replace('-', "_");
    // Words longer than any key are no slip of the pen, and their distance is not worth the time.
    let word = plain(word);
    // Nor is a number.
    if word.is_empty() || word.chars().count() > 64 || word.parse::<f64>().is_ok() {
        return None;
    }
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = plain(candidate);
            let begins = word.len() >= 3 && other.len() >= 3 && (other.starts_with(&word) || word.starts_with(&other));
            let distance = edit_distance(&word, &other);
            let near = distance <= (word.chars().count() / 3).max(1);
            (near || begins).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Number of insertions, deletions, substitutions and swaps of neighbours between two words.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_find_their_key() {
        let keys = ["input_mpp", "tile_px", "stride_px", "margin_px", "min_tissue"];
        assert_eq!(nearest("stride", keys), Some("stride_px"));
        assert_eq!(nearest("tilepx", keys), Some("tile_px"));
        assert_eq!(nearest("maring_px", keys), Some("margin_px"));
        assert_eq!(nearest("Tile-Px", keys), Some("tile_px"));
        assert_eq!(nearest("min_tisue", keys), Some("min_tissue"));
    }

    #[test]
    fn strangers_find_nothing() {
        assert_eq!(nearest("colour", ["tile_px", "stride_px"]), None);
        assert_eq!(nearest("", ["tile_px"]), None);
        assert_eq!(nearest(&"x".repeat(100_000), ["tile_px"]), None);
    }
}
