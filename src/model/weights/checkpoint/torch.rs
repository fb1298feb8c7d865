//! What `torch.save` writes: a pickle whose tensors name storages that lie beside it.
//!
//! Owns: [`read_zip`], [`read_legacy`]. Must not know: networks, names of layers.
//!
//! Source: PyTorch, `torch/serialization.py` (`_save`, `_legacy_save`, `persistent_id`) and `torch/_utils.py`
//! (`_rebuild_*`). Since PyTorch 1.6 a zip archive `<root>/data.pkl`, `<root>/data/<key>`; before, a stream of five pickles
//! (magic number, protocol, system, object, keys of storages) and then each storage with its length.

use super::{
    Entry, Failure, Found, Placed,
    bytes::{Cursor, Source},
    element::Element,
    pickle::{Call, Id, Pickle, Value},
    zip::Archive,
};
use std::collections::HashMap;

/// First pickle of the format before PyTorch 1.6: the integer `0x1950a86a20f9469cfc6c`.
pub(super) const MAGIC: [u8; 12] = *b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
/// Longest list of dimensions.
const MAX_RANK: usize = 16;
/// Wrappers around one tensor.
const MAX_WRAPS: usize = 8;
/// Depth of modules in modules, and entries of a whole module.
const MAX_MODULE_DEPTH: usize = 64;
const MAX_MODULE_ENTRIES: usize = 100_000;
/// Longest key of a storage, longest name of a tensor, and bytes of all names: names come from the memo, so a small file
/// could ask for a long one a million times.
const MAX_KEY_BYTES: usize = 256;
const MAX_NAME_BYTES: usize = 1024;
const MAX_NAMES_BYTES: usize = 64 << 20;
/// Keys looked at to find out whether a dict holds tensors.
const MAX_LOOKED_AT: usize = 10_000;

const SAVE_AGAIN: Option<&str> = Some("load it with PyTorch and save `model.state_dict()`");

/// A storage outside of the pickle.
struct Storage<'p> {
    key: &'p str,
    element: Element,
    numbers: u64,
    /// Older files: a part of another storage, which has the bytes: its key and the first number.
    view: Option<(&'p str, u64)>,
}

/// Where storages lie: key → start and end in the source.
type Spans = HashMap<String, (u64, u64)>;

/// Reads the entries of a zip archive.
pub(super) fn read_zip(source: &Source) -> Result<Pickled, Failure> {
    let archive = Archive::read(source)?;
    let mut pickles: Vec<&str> = archive.names().filter(|n| *n == "data.pkl" || n.ends_with("/data.pkl")).collect();
    pickles.sort_unstable_by_key(|n| n.len());
    let Some(name) = pickles.first().copied() else {
        let hint = Some("name the `.pth` file itself; archives of NumPy and of TensorFlow are not read");
        return Err(("file is a zip archive without `data.pkl`, expected one of PyTorch".to_owned(), hint));
    };
    let root = name.trim_end_matches("data.pkl").to_owned();
    if archive.span(source, &format!("{root}constants.pkl"))?.is_some() {
        return Err(("file is a TorchScript archive, expected a checkpoint".to_owned(), SAVE_AGAIN));
    }
    if let Some((start, end)) = archive.span(source, &format!("{root}byteorder"))? {
        let order = source.read(start, (end - start).min(16))?;
        if order != b"little" {
            let message = format!("numbers are stored `{}`-endian, expected little", String::from_utf8_lossy(&order));
            return Err((message, SAVE_AGAIN));
        }
    }
    let (start, end) = archive.span(source, name)?.expect("the name is from the archive");
    let pickle = Pickle::read(&mut Cursor::new(source, start, end))?;
    let mut spans = Spans::new();
    for id in storages(&pickle) {
        if let Some(span) = archive.span(source, &format!("{root}data/{}", id.key))? {
            spans.insert(id.key.to_owned(), span);
        }
    }
    Ok(Pickled { pickle, spans })
}

/// Reads the entries of the format before PyTorch 1.6.
pub(super) fn read_legacy(source: &Source) -> Result<Pickled, Failure> {
    let mut cursor = Cursor::new(source, 0, source.len());
    Pickle::read(&mut cursor)?;
    Pickle::read(&mut cursor)?;
    let system = Pickle::read(&mut cursor)?;
    if system.entry(system.root, "little_endian").is_some_and(|id| matches!(system.get(id), Value::Bool(false))) {
        return Err(("numbers are stored `big`-endian, expected little".to_owned(), SAVE_AGAIN));
    }
    let pickle = Pickle::read(&mut cursor)?;
    let keys = Pickle::read(&mut cursor)?;
    let elements: HashMap<&str, Element> = storages(&pickle)
        .flat_map(|s| [(s.key, s.element)].into_iter().chain(s.view.map(|(k, _)| (k, s.element))))
        .collect();
    let Value::List(list) = keys.get(keys.root) else {
        return Err(("file has no list of storages".to_owned(), SAVE_AGAIN));
    };
    let mut spans = Spans::new();
    for &id in list {
        let key = keys.text(id).unwrap_or("?");
        let Some(element) = elements.get(key) else {
            return Err((format!("storage `{key}` is listed, and no tensor of the file has it"), SAVE_AGAIN));
        };
        let numbers = u64::from_le_bytes(cursor.array()?);
        let (start, bytes) = (cursor.at(), numbers.checked_mul(element.bytes() as u64));
        let bytes = bytes.filter(|&b| b <= source.len() - start).ok_or_else(|| {
            let left = source.len() - start;
            let message =
                format!("file is cut off: storage `{key}` claims `{numbers}` numbers, file has `{left}` more bytes");
            (message, Some("copy or download the file again"))
        })?;
        cursor.skip(bytes)?;
        spans.insert(key.to_owned(), (start, start + bytes));
    }
    Ok(Pickled { pickle, spans })
}

/// Every storage a pickle names.
fn storages(pickle: &Pickle) -> impl Iterator<Item = Storage<'_>> {
    pickle.values().iter().filter_map(|value| match value {
        Value::Persistent(id) => storage(pickle, *id),
        _ => None,
    })
}

/// `('storage', torch.FloatStorage, key, location, numbers[, None or (root key, first number, numbers)])`.
fn storage(pickle: &Pickle, id: Id) -> Option<Storage<'_>> {
    let [kind, class, key, _, numbers, rest @ ..] = pickle.tuple(id)? else { return None };
    if pickle.text(*kind)? != "storage" {
        return None;
    }
    let (_, class) = pickle.global(*class)?.rsplit_once('.')?;
    let view = rest.first().and_then(|&view| match pickle.tuple(view)? {
        [root, first, _] => {
            let root = pickle.text(*root).filter(|key| key.len() <= MAX_KEY_BYTES)?;
            Some((root, u64::try_from(pickle.int(*first)?).ok()?))
        }
        _ => None,
    });
    Some(Storage {
        key: pickle.text(*key).filter(|key| key.len() <= MAX_KEY_BYTES)?,
        element: Element::of_storage(class)?,
        numbers: u64::try_from(pickle.int(*numbers)?).ok()?,
        view,
    })
}

/// A checkpoint's pickle, and where its storages are.
#[derive(Debug)]
pub(super) struct Pickled {
    pub(super) pickle: Pickle,
    spans: Spans,
}

impl Pickled {
    /// What stands at `id`: a tensor, something that would be one, or anything else.
    pub(super) fn found(&self, id: Id) -> Found {
        match self.tensor(id) {
            Some(Ok(placed)) => Found::Tensor(placed),
            Some(Err(why)) => Found::Unreadable(why),
            None => Found::Other(self.describe(id)),
        }
    }

    /// In words, for messages.
    pub(super) fn describe(&self, id: Id) -> String {
        match self.pickle.get(id) {
            Value::None => "`None`".to_owned(),
            Value::Bool(_) => "a boolean".to_owned(),
            Value::Int(_) => "an integer".to_owned(),
            Value::Text(_) => "a text".to_owned(),
            Value::Opaque => "a number or bytes".to_owned(),
            Value::Tuple(_) => "a tuple".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Dict(_) => "a dict".to_owned(),
            Value::Global(path) => format!("`{}`", shortened(path)),
            Value::Persistent(_) => "a storage".to_owned(),
            Value::Call(call) => match self.pickle.global(call.callable) {
                Some(path) => format!("made by `{}`", shortened(path)),
                None => "made by a call".to_owned(),
            },
        }
    }

    fn tensor(&self, mut id: Id) -> Option<Result<Placed, String>> {
        for _ in 0..MAX_WRAPS {
            let (path, call) = self.pickle.call(id)?;
            let args = self.pickle.tuple(call.args)?;
            match path {
                "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor" => {
                    return Some(
                        self.placed(args).ok_or_else(|| "a tensor whose storage or shape makes no sense".to_owned()),
                    );
                }
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
                    id = *args.first()?
                }
                "torch._tensor._rebuild_from_type_v2" => match (self.pickle.global(*args.first()?)?, args) {
                    ("torch._utils._rebuild_tensor_v2", [_, _, inner, ..]) => {
                        let placed = self.pickle.tuple(*inner).and_then(|inner| self.placed(inner));
                        return Some(placed.ok_or_else(|| "a tensor whose storage or shape makes no sense".to_owned()));
                    }
                    (path, _) => return Some(Err(format!("made by `{}`", shortened(path)))),
                },
                path if path.starts_with("torch._utils._rebuild_") => {
                    return Some(Err(format!("made by `{}`, expected a dense tensor", shortened(path))));
                }
                _ => return None,
            }
        }
        None
    }

    /// `(storage, first number, shape, strides, …)`.
    fn placed(&self, args: &[Id]) -> Option<Placed> {
        let [storage_id, first, shape, strides, ..] = args else { return None };
        let Value::Persistent(persistent) = self.pickle.get(*storage_id) else { return None };
        let storage = storage(&self.pickle, *persistent)?;
        let (key, skipped) = storage.view.unwrap_or((storage.key, 0));
        let &(start, end) = self.spans.get(key)?;
        let bytes = storage.element.bytes() as u64;
        let first = u64::try_from(self.pickle.int(*first)?).ok()?;
        let start = start.checked_add(skipped.checked_mul(bytes)?)?;
        let end = start.checked_add(storage.numbers.checked_mul(bytes)?)?.min(end);
        let (shape, strides) = (self.lengths(*shape)?, self.lengths(*strides)?);
        let placed =
            Placed { element: storage.element, shape, strides, start: start.checked_add(first.checked_mul(bytes)?)? };
        // The last number it reaches lies within its storage.
        let fits = placed.span_bytes().and_then(|span| placed.start.checked_add(span)).is_some_and(|last| last <= end);
        (fits && placed.shape.len() == placed.strides.len()).then_some(placed)
    }

    /// A shape or strides: a tuple, or `torch.Size` of one.
    fn lengths(&self, id: Id) -> Option<Vec<usize>> {
        let items = match self.pickle.call(id) {
            Some(("torch.Size", call)) => self.pickle.tuple(*self.pickle.tuple(call.args)?.first()?)?,
            _ => self.pickle.tuple(id)?,
        };
        if items.len() > MAX_RANK {
            return None;
        }
        items.iter().map(|&item| usize::try_from(self.pickle.int(item)?).ok()).collect()
    }

    /// Entries of a dict whose keys are texts.
    pub(super) fn entries(&self, dict: Id) -> Result<Vec<Entry>, Failure> {
        let (mut entries, mut names_bytes) = (vec![], 0);
        for &(key, value) in self.pickle.items(dict).unwrap_or_default() {
            let Some(name) = self.pickle.text(key) else { continue };
            names_bytes += name.len();
            if name.len() > MAX_NAME_BYTES || names_bytes > MAX_NAMES_BYTES {
                let message = format!(
                    "a name has `{}` bytes after `{}` entries, expected at most {MAX_NAME_BYTES}",
                    name.len(),
                    entries.len()
                );
                return Err((message, None));
            }
            entries.push(Entry { name: name.to_owned(), found: self.found(value) });
        }
        Ok(entries)
    }

    /// Whether a dict holds tensors.
    pub(super) fn holds_tensors(&self, dict: Id) -> bool {
        let items = self.pickle.items(dict).unwrap_or_default();
        items
            .iter()
            .take(MAX_LOOKED_AT)
            .any(|&(key, value)| self.pickle.text(key).is_some() && self.tensor(value).is_some())
    }

    /// The entries of a whole module, as its `state_dict` would name them; `None` when it is none.
    pub(super) fn module(&self, root: Id) -> Option<Result<Vec<Entry>, Failure>> {
        self.parts(root)?;
        let (mut entries, mut open, mut seen) = (vec![], vec![(root, String::new(), 0)], 0);
        while let Some((id, prefix, depth)) = open.pop() {
            let Some(state) = self.parts(id) else { continue };
            for part in ["_parameters", "_buffers", "_modules"] {
                let Some(dict) = self.pickle.entry(state, part) else { continue };
                for &(key, value) in self.pickle.items(dict).unwrap_or_default() {
                    let Some(name) = self.pickle.text(key) else { continue };
                    seen += 1;
                    if depth >= MAX_MODULE_DEPTH
                        || seen > MAX_MODULE_ENTRIES
                        || prefix.len() + name.len() > MAX_NAME_BYTES
                    {
                        return Some(Err(("modules are nested without an end".to_owned(), SAVE_AGAIN)));
                    }
                    if part == "_modules" {
                        open.push((value, format!("{prefix}{name}."), depth + 1));
                    } else if !matches!(self.pickle.get(value), Value::None) {
                        entries.push(Entry { name: format!("{prefix}{name}"), found: self.found(value) });
                    }
                }
            }
        }
        Some(Ok(entries))
    }

    /// The attributes of a module.
    fn parts(&self, id: Id) -> Option<Id> {
        let Value::Call(call) = self.pickle.get(id) else { return None };
        let Call { state: Some(state), .. } = **call else { return None };
        self.pickle.entry(state, "_modules").map(|_| state)
    }
}

/// The first 80 characters: a hostile name may be long, and may hold line feeds.
fn shortened(path: &str) -> String {
    path.chars().map(|c| if c.is_control() { '?' } else { c }).take(80).collect()
}
