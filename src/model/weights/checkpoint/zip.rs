//! Zip archives as `torch.save` writes them: members stored, not compressed.
//!
//! Owns: [`Archive`]. Must not know: what members hold.
//!
//! Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14–4.3.16 (its end, with
//! and without zip64), 4.5.3 (zip64 sizes). Every number is checked against the file before it is used.

use super::{Failure, bytes::Source};
use std::collections::HashMap;

/// Longest directory read: a million members with names as long as PyTorch's need less.
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;
/// Bytes of the end record, and the longest comment after it.
const END_BYTES: u64 = 22;
const MAX_COMMENT_BYTES: u64 = 65_535;

/// Where a member's header lies, and how long its bytes are.
#[derive(Debug, Clone, Copy)]
struct Member {
    header: u64,
    bytes: u64,
    is_stored: bool,
}

/// The directory of an archive.
#[derive(Debug)]
pub(super) struct Archive {
    members: HashMap<String, Member>,
}

fn bad(what: &str) -> Failure {
    (format!("zip archive cannot be read: {what}"), Some("copy or download the file again"))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?)))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

impl Archive {
    pub(super) fn read(source: &Source) -> Result<Self, Failure> {
        let (at, bytes) = directory(source)?;
        if bytes > MAX_DIRECTORY_BYTES {
            return Err(bad(&format!("its directory claims `{bytes}` bytes, expected at most {MAX_DIRECTORY_BYTES}")));
        }
        let directory = source.read(at, bytes)?;
        let (mut members, mut rest) = (HashMap::new(), &directory[..]);
        while !rest.is_empty() {
            let (name, member, next) = entry(rest).ok_or_else(|| bad("an entry of its directory makes no sense"))?;
            members.insert(name, member);
            rest = next;
        }
        Ok(Self { members })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Start and end of a member's bytes in the source; `None` when there is no such member.
    pub(super) fn span(&self, source: &Source, name: &str) -> Result<Option<(u64, u64)>, Failure> {
        let Some(member) = self.members.get(name) else { return Ok(None) };
        if !member.is_stored {
            let hint = Some("unpack the archive and load what is in it, or save the checkpoint again with PyTorch");
            return Err((
                format!("`{name}` is compressed or encrypted, expected it stored as `torch.save` does"),
                hint,
            ));
        }
        let header = source.read(member.header, 30)?;
        let (name_bytes, extra_bytes) = (u16_at(&header, 26), u16_at(&header, 28));
        let (true, Some(name_bytes), Some(extra_bytes)) = (header.starts_with(b"PK\x03\x04"), name_bytes, extra_bytes)
        else {
            return Err(bad(&format!("`{name}` is not where its directory says")));
        };
        let start = member.header + 30 + name_bytes + extra_bytes;
        match start.checked_add(member.bytes).filter(|&end| end <= source.len()) {
            Some(end) => Ok(Some((start, end))),
            None => {
                Err(bad(&format!("`{name}` claims `{}` bytes from byte {start}, more than there are", member.bytes)))
            }
        }
    }
}

/// Where the directory starts, and its length.
fn directory(source: &Source) -> Result<(u64, u64), Failure> {
    let tail_bytes = source.len().min(END_BYTES + MAX_COMMENT_BYTES);
    let tail_at = source.len() - tail_bytes;
    let tail = source.read(tail_at, tail_bytes)?;
    let found = tail.windows(4).rposition(|w| w == b"PK\x05\x06").filter(|&at| tail.len() - at >= END_BYTES as usize);
    let at = found.ok_or_else(|| bad("it has no end, so it is cut off or still being written"))?;
    let end = &tail[at..];
    let (bytes, start) = (u32_at(end, 12), u32_at(end, 16));
    let locator = at.checked_sub(20).map(|l| &tail[l..at]).filter(|l| l.starts_with(b"PK\x06\x07"));
    let (start, bytes) = match locator {
        Some(locator) => {
            let at = u64_at(locator, 8).ok_or_else(|| bad("its end makes no sense"))?;
            let end = source.read(at, 56)?;
            if !end.starts_with(b"PK\x06\x06") {
                return Err(bad("its zip64 end is not where it says"));
            }
            (u64_at(&end, 48), u64_at(&end, 40))
        }
        None => (start, bytes),
    };
    start.zip(bytes).ok_or_else(|| bad("its end makes no sense"))
}

/// The first entry of a directory, and the rest of it.
fn entry(bytes: &[u8]) -> Option<(String, Member, &[u8])> {
    if !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (flags, method) = (u16_at(bytes, 8)?, u16_at(bytes, 10)?);
    let (packed, mut size, mut header) = (u32_at(bytes, 20)?, u32_at(bytes, 24)?, u32_at(bytes, 42)?);
    let name_end = 46 + u16_at(bytes, 28)? as usize;
    let extra_end = name_end + u16_at(bytes, 30)? as usize;
    let end = extra_end + u16_at(bytes, 32)? as usize;
    let name = String::from_utf8_lossy(bytes.get(46..name_end)?).into_owned();
    let mut extra = bytes.get(name_end..extra_end)?;
    while let (Some(id), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let field = extra.get(4..4 + len as usize)?;
        if id == 1 {
            // Only the numbers that did not fit are there, in this order.
            let mut at = 0;
            let mut wide = |narrow: u64| {
                if narrow != u64::from(u32::MAX) {
                    return Some(narrow);
                }
                at += 8;
                u64_at(field, at - 8)
            };
            size = wide(size)?;
            wide(packed)?;
            header = wide(header)?;
        }
        extra = &extra[4 + len as usize..];
    }
    // Headers lie in front of the directory, so sums of their places cannot overflow.
    let header = (header < u64::MAX / 2).then_some(header)?;
    Some((name, Member { header, bytes: size, is_stored: method == 0 && flags & 1 == 0 }, bytes.get(end..)?))
}
