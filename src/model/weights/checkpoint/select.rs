//! Which of a checkpoint's entries are the network's tensors, and what their names have in front.
//!
//! Owns: [`entries`], [`without_prefixes`]. Must not know: formats, networks.

use super::{Entry, Failure, Found, torch::Pickled};
use crate::model::weights::NAMED;

/// Keys under which training code keeps a network's tensors, the surest first.
const WRAPPERS: &[&str] = &[
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "desc", // HoVer-Net
    "module",
    "weights",
    "params",
];
/// Prefixes that wrappers of a network put in front of every name: `DataParallel`, Lightning, `torch.compile`.
const PREFIXES: &[&str] = &["module.", "model.", "net.", "network.", "desc.", "_orig_mod.", "_fsdp_wrapped_module."];
/// Keys looked at to find the dict of tensors.
const MAX_LOOKED_AT: usize = 256;
/// Dicts in dicts.
const MAX_WRAPS: usize = 8;
/// Globals that only a hostile file has. Nothing is ever run, so this is no defence, only a warning to the user.
const HOSTILE: &[&str] = &[
    "os.",
    "posix.",
    "nt.",
    "subprocess.",
    "socket.",
    "shutil.",
    "runpy.",
    "pty.",
    "ctypes.",
    "importlib.",
    "webbrowser.",
    "commands.getoutput",
    "asyncio.",
    "requests.",
    "urllib.",
    "code.interact",
    "timeit.",
    "pickle.",
    "_pickle.",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "builtins.open",
    "builtins.__import__",
    "__builtin__.eval",
    "__builtin__.exec",
    "__builtin__.execfile",
    "__builtin__.compile",
    "__builtin__.open",
    "__builtin__.file",
    "__builtin__.__import__",
];

/// The entries of the dict of tensors in a pickle, through wrappers, or of a whole module.
pub(super) fn entries(pickled: &Pickled, key: Option<&str>) -> Result<Vec<Entry>, Failure> {
    refuse_hostile(pickled)?;
    let mut at = pickled.pickle.root;
    if let Some(key) = key {
        at = pickled.pickle.entry(at, key).ok_or_else(|| {
            let keys = keys_of(pickled, at);
            (format!("checkpoint has no entry `{key}`: found {keys}"), None)
        })?;
    }
    for _ in 0..MAX_WRAPS {
        if let Some(entries) = pickled.module(at) {
            return entries;
        }
        if pickled.pickle.items(at).is_none() {
            let message = format!("checkpoint holds {}, expected a dict of tensors", pickled.describe(at));
            return Err((message, Some("save `model.state_dict()` with PyTorch")));
        }
        if pickled.holds_tensors(at) {
            return pickled.entries(at);
        }
        at = inner(pickled, at)?;
    }
    Err(("checkpoint holds dicts in dicts without an end, expected a dict of tensors".to_owned(), None))
}

/// The dict to look into next.
fn inner(pickled: &Pickled, dict: u32) -> Result<u32, Failure> {
    if let Some(known) = WRAPPERS.iter().find_map(|key| pickled.pickle.entry(dict, key)) {
        return Ok(known);
    }
    let items = pickled.pickle.items(dict).unwrap_or_default();
    let mut holding =
        items.iter().take(MAX_LOOKED_AT).filter(|&&(_, v)| pickled.holds_tensors(v) || pickled.module(v).is_some());
    match (holding.next(), holding.next()) {
        (Some(&(_, only)), None) => Ok(only),
        (None, _) => {
            let message = format!("checkpoint holds no tensors: found {}", keys_of(pickled, dict));
            Err((message, Some("save `model.state_dict()` with PyTorch")))
        }
        _ => {
            let message = format!("checkpoint holds more than one dict of tensors: {}", keys_of(pickled, dict));
            Err((message, Some("say which is meant with `--entry`")))
        }
    }
}

/// The first keys of a dict.
fn keys_of(pickled: &Pickled, dict: u32) -> String {
    let items = pickled.pickle.items(dict).unwrap_or_default();
    let name = |key: &str| format!("`{}`", key.chars().take(60).collect::<String>());
    let keys: Vec<String> =
        items.iter().filter_map(|&(k, _)| pickled.pickle.text(k)).take(2 * NAMED).map(name).collect();
    let more = if items.len() > keys.len() { ", …" } else { "" };
    if keys.is_empty() { "nothing".to_owned() } else { format!("{}{more}", keys.join(", ")) }
}

fn refuse_hostile(pickled: &Pickled) -> Result<(), Failure> {
    let named = |what: &str| HOSTILE.iter().any(|h| if h.ends_with('.') { what.starts_with(h) } else { what == *h });
    let globals = (0..pickled.pickle.values().len() as u32).filter_map(|id| pickled.pickle.global(id));
    match globals.into_iter().find(|path| named(path)) {
        None => Ok(()),
        Some(path) => {
            let path: String = path.chars().map(|c| if c.is_control() { '?' } else { c }).take(80).collect();
            let message = format!("checkpoint asks for `{path}` to be called, expected only tensors");
            Err((message, Some("nothing was run; do not load this file with `torch.load`, and ask where it came from")))
        }
    }
}

/// Takes off what all names have in front; with `prefix`, only entries that start so are kept.
pub(super) fn without_prefixes(mut entries: Vec<Entry>, prefix: Option<&str>) -> Result<Vec<Entry>, Failure> {
    if let Some(prefix) = prefix {
        if !entries.iter().any(|e| e.name.starts_with(prefix)) {
            let names: Vec<String> = entries.iter().take(NAMED).map(|e| format!("`{}`", e.name)).collect();
            let more = if entries.len() > NAMED { ", …" } else { "" };
            return Err((format!("no tensor's name starts with `{prefix}`: found {}{more}", names.join(", ")), None));
        }
        entries.retain(|e| e.name.starts_with(prefix));
        take_off(&mut entries, prefix);
        return Ok(entries);
    }
    // Entries that are no tensors (a version, a step) do not count.
    let shared = |entries: &[Entry], prefix: &str| {
        let mut tensors = entries.iter().filter(|e| !matches!(e.found, Found::Other(_))).peekable();
        tensors.peek().is_some() && tensors.all(|e| e.name.starts_with(prefix))
    };
    while let Some(prefix) = PREFIXES.iter().find(|prefix| shared(&entries, prefix)) {
        take_off(&mut entries, prefix);
    }
    Ok(entries)
}

fn take_off(entries: &mut [Entry], prefix: &str) {
    for entry in entries {
        if let Some(rest) = entry.name.strip_prefix(prefix) {
            entry.name = rest.to_owned();
        }
    }
}
