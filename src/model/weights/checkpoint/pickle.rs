//! Python pickles, read as data: every opcode is understood, none runs anything.
//!
//! Owns: [`Pickle`], [`Value`]. Must not know: opcodes, tensors, archives.
//!
//! What a pickle would call becomes a [`Value::Call`] that says what it would have called with what. Values lie in one
//! list and name each other by number, so that neither a memo that is used a million times nor lists nested a million
//! deep cost more than their own bytes, and nothing here recurses. Opcodes, text and lines have an upper bound.
//!
//! Source: CPython, `Lib/pickletools.py` and `Lib/pickle.py`, protocols 0–5. `candle_core::pickle` is not used: it copies
//! values out of its memo (a small file makes it take all memory), allocates lengths a file claims, drops nested values
//! by recursion, panics on tuples that are too short, and knows neither protocol 4, the format before PyTorch 1.6,
//! strings of Python 2 nor integer storages.

mod machine;

use super::{Failure, bytes::Cursor};

/// Keys looked at for one that is wanted: such dicts are attributes of objects and wrappers, with tens of keys.
const MAX_KEYS: usize = 1024;
/// Number of a value in its [`Pickle`].
pub(super) type Id = u32;

/// What a pickle holds at one place.
#[derive(Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Text(Box<str>),
    /// Something no tensor is made of: bytes, floats, sets, integers of more than 64 bits.
    Opaque,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// `module.name`, looked up by nobody.
    Global(Box<str>),
    /// What the pickle's writer kept outside of it: here, a storage.
    Persistent(Id),
    Call(Box<Call>),
}

/// What a pickle would call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) callable: Id,
    pub(super) args: Id,
    /// What its result would be given by `__setstate__` or as `__dict__`.
    pub(super) state: Option<Id>,
    /// What would be put into its result as into a dict.
    pub(super) items: Vec<(Id, Id)>,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    pub(super) root: Id,
}

impl Pickle {
    /// Reads one pickle; the cursor is then behind it.
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Failure> {
        machine::run(cursor)
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        if let Value::Text(text) = self.get(id) { Some(text) } else { None }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        if let Value::Int(int) = self.get(id) { Some(*int) } else { None }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        if let Value::Tuple(items) = self.get(id) { Some(items) } else { None }
    }

    pub(super) fn global(&self, id: Id) -> Option<&str> {
        if let Value::Global(path) = self.get(id) { Some(path) } else { None }
    }

    /// Keys and values of a dict or of an object that was filled like one.
    pub(super) fn items(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(items) => Some(items),
            Value::Call(call) if !call.items.is_empty() => Some(&call.items),
            _ => None,
        }
    }

    /// What would be called to make a value, and with what.
    pub(super) fn call(&self, id: Id) -> Option<(&str, &Call)> {
        if let Value::Call(call) = self.get(id) { Some((self.global(call.callable)?, call)) } else { None }
    }

    /// The value of a text key among the first [`MAX_KEYS`]; the last one wins, as in Python.
    pub(super) fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let items = self.items(dict)?;
        items.iter().take(MAX_KEYS).rev().find(|&&(k, _)| self.text(k) == Some(key)).map(|&(_, value)| value)
    }
}
