//! Slide ids: file names that are safe everywhere, and unique.
//!
//! Owns: [`ids`]. Must not know: what the files are.

use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

/// Longest id: file systems allow 255 bytes, and outputs add extensions.
const MAX_BYTES: usize = 150;

/// One id per path (relative to the folder searched), in the same order.
///
/// `a/b.svs` is `a__b`. When two paths would have one id, a hash of its path is appended to each. Bytes that some
/// file system refuses become `%` and two hex digits.
pub(super) fn ids<'p>(paths: impl Iterator<Item = &'p Path>) -> Vec<String> {
    let paths: Vec<&Path> = paths.collect();
    let mut ids: Vec<String> = paths.iter().map(|path| shorten(fold(path), path)).collect();
    // Some file systems do not tell `A` from `a`.
    let mut users: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, id) in ids.iter().enumerate() {
        users.entry(id.to_lowercase()).or_default().push(i);
    }
    for i in users.into_values().filter(|users| users.len() > 1).flatten() {
        ids[i] = format!("{}-{}", ids[i], short_hash(paths[i]));
    }
    let mut taken = BTreeSet::new();
    for id in &mut ids {
        while !taken.insert(id.to_lowercase()) {
            id.push('_');
        }
    }
    ids
}

/// Folders joined by `__`, without the extension.
fn fold(path: &Path) -> String {
    let stem = path.with_extension("");
    let whole = if stem.as_os_str().is_empty() { path } else { &stem };
    let mut id = String::new();
    for part in whole.components() {
        if let Component::Normal(part) = part {
            if !id.is_empty() {
                id.push_str("__");
            }
            escape(part.as_encoded_bytes(), &mut id);
        }
    }
    // A leading dot hides the file, a trailing one is dropped by Windows.
    if id.starts_with('.') {
        id.replace_range(..1, "%2E");
    }
    if id.ends_with('.') {
        id.replace_range(id.len() - 1.., "%2E");
    }
    if id.is_empty() { "slide".into() } else { reserved(id) }
}

fn escape(bytes: &[u8], id: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c.is_whitespace() || "/\\:*?\"<>|%".contains(c) {
                let mut utf8 = [0; 4];
                c.encode_utf8(&mut utf8).bytes().for_each(|byte| id.push_str(&format!("%{byte:02X}")));
            } else {
                id.push(c);
            }
        }
        chunk.invalid().iter().for_each(|byte| id.push_str(&format!("%{byte:02X}")));
    }
}

/// Names that Windows gives to devices.
fn reserved(id: String) -> String {
    let upper = id.to_ascii_uppercase();
    let device = matches!(upper.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || matches!(upper.as_bytes(), [b'C', b'O', b'M', b'0'..=b'9'] | [b'L', b'P', b'T', b'0'..=b'9']);
    if device { format!("{id}_") } else { id }
}

fn shorten(mut id: String, path: &Path) -> String {
    if id.len() > MAX_BYTES {
        let keep = (0..=MAX_BYTES - 9).rev().find(|&i| id.is_char_boundary(i)).unwrap_or(0);
        id.truncate(keep);
        id = format!("{id}-{}", short_hash(path));
    }
    id
}

/// Eight hex digits of the path's bytes, the same with either separator.
fn short_hash(path: &Path) -> String {
    let mut hash = Sha256::new();
    for part in path.components() {
        hash.update(part.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
    hash.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &[&str]) -> Vec<String> {
        ids(paths.iter().map(Path::new))
    }

    #[test]
    fn folders_are_folded_and_the_extension_is_dropped() {
        assert_eq!(of(&["a/b.svs", "c.ome.tif", "d"]), ["a__b", "c.ome", "d"]);
    }

    #[test]
    fn paths_that_would_share_an_id_get_a_hash_of_their_path() {
        let ids = of(&["a.svs", "a.tif", "b.svs", "x/y.svs", "x__y.svs", "CASE.svs", "case.svs"]);
        assert_eq!(ids[2], "b");
        for i in [0, 1, 3, 4, 5, 6] {
            assert_eq!(ids[i].rsplit_once('-').unwrap().1.len(), 8, "{ids:?}");
        }
        let unique: BTreeSet<_> = ids.iter().map(|id| id.to_lowercase()).collect();
        assert_eq!(unique.len(), ids.len());
        // The id of one slide does not depend on the others that share its stem.
        assert_eq!(of(&["a.ndpi", "a.svs"])[1], ids[0]);
    }

    #[test]
    fn any_bytes_make_a_safe_name() {
        assert_eq!(of(&["a b:c%.svs"]), ["a%20b%3Ac%25"]);
        assert_eq!(of(&["größe.svs"]), ["größe"]);
        assert_eq!(of(&[".svs", "con.tif", "..x.tif", ""]), ["%2Esvs", "con_", "%2E.x", "slide"]);
        let long = "x".repeat(300);
        assert!(of(&[&long])[0].len() <= MAX_BYTES);
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            let raw = std::ffi::OsStr::from_bytes(b"a\xffb.svs");
            assert_eq!(ids([Path::new(raw)].into_iter()), ["a%FFb"]);
        }
    }
}
