//! The stack machine of pickles.
//!
//! Owns: [`run`]. Must not know: what values are good for.

use super::{Call, Cursor, Failure, Id, Pickle, Value};
use std::collections::HashMap;

/// Most opcodes read: optimiser states and logs included, checkpoints need a tenth.
const MAX_OPCODES: usize = 5_000_000;
/// Most bytes of text kept.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// Longest line of the text opcodes.
const MAX_LINE_BYTES: usize = 4096;
/// Newest protocol.
const MAX_PROTOCOL: u8 = 5;

/// Reads one pickle; the cursor is then behind it.
pub(super) fn run(cursor: &mut Cursor<'_>) -> Result<Pickle, Failure> {
    let (values, stack, marks, memo) = (vec![], vec![], vec![], HashMap::new());
    let mut machine = Machine { cursor, values, stack, marks, memo, text_bytes: 0, pairs: 0 };
    for _ in 0..MAX_OPCODES {
        let [opcode] = machine.cursor.array()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Pickle { values: machine.values, root });
        }
        machine.step(opcode)?;
    }
    Err(machine.fail(&format!("it has more than `{MAX_OPCODES}` opcodes")))
}

struct Machine<'c, 's> {
    cursor: &'c mut Cursor<'s>,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    text_bytes: u64,
    /// Pairs copied from lists.
    pairs: usize,
}

impl Machine<'_, '_> {
    fn fail(&self, what: &str) -> Failure {
        (format!("pickle cannot be read: {what}, before byte {}", self.cursor.at()), None)
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push((self.values.len() - 1) as Id);
    }

    fn pop(&mut self) -> Result<Id, Failure> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = if self.stack.len() > floor { self.stack.pop() } else { None };
        top.ok_or_else(|| self.fail("its stack is empty"))
    }

    fn top(&self) -> Result<Id, Failure> {
        self.stack.last().copied().ok_or_else(|| self.fail("its stack is empty"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Failure> {
        let mark = self.marks.pop().ok_or_else(|| self.fail("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_pairs(&mut self) -> Result<Vec<(Id, Id)>, Failure> {
        let items = self.pop_to_mark()?;
        match items.as_chunks() {
            (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
            _ => Err(self.fail("a key has no value")),
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), Failure> {
        match opcode {
            0x80 => match self.cursor.array()? {
                [protocol] if protocol <= MAX_PROTOCOL => {}
                [protocol] => return Err(self.fail(&format!("its protocol is `{protocol}`, expected at most 5"))),
            },
            0x95 => self.cursor.skip(8)?, // a frame: only the length of what follows
            b'(' => self.marks.push(self.stack.len()),
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'N' | 0x88 | 0x89 | b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'F' | b'G' => self.number(opcode)?,
            b'S' | b'T' | b'U' | b'V' | b'X' | 0x8c | 0x8d => self.string(opcode)?,
            b'B' | b'C' | 0x8e | 0x96 => self.bytes(opcode)?,
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'a' | b'e' => self.sequence(opcode)?,
            b'}' | b'd' | b's' | b'u' => self.dict(opcode)?,
            0x8f..=0x91 => self.set(opcode)?,
            b'p' | b'q' | b'r' | 0x94 => self.remember(opcode)?,
            b'g' | b'h' | b'j' => self.recall(opcode)?,
            b'c' | 0x93 | b'P' | b'Q' => self.outside(opcode)?,
            b'i' | b'o' | b'R' | 0x81 | 0x92 => self.call(opcode)?,
            b'b' => self.build()?,
            0x82..=0x84 => return Err(self.fail("it uses Python's extension registry, expected a checkpoint")),
            0x97 | 0x98 => return Err(self.fail("its buffers are in another file, expected them in this one")),
            _ => return Err(self.fail(&format!("opcode `{opcode:#04x}` is none"))),
        }
        Ok(())
    }

    fn number(&mut self, opcode: u8) -> Result<(), Failure> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.cursor.array()?).into()),
            b'K' => Value::Int(self.cursor.array::<1>()?[0].into()),
            b'M' => Value::Int(u16::from_le_bytes(self.cursor.array()?).into()),
            0x8a => self.long(|c| Ok(c.array::<1>()?[0].into()))?,
            0x8b => self.long(|c| Ok(u32::from_le_bytes(c.array()?).into()))?,
            b'G' => {
                self.cursor.skip(8)?;
                Value::Opaque
            }
            b'F' => {
                self.cursor.line(MAX_LINE_BYTES)?;
                Value::Opaque
            }
            _ => match self.cursor.line(MAX_LINE_BYTES)?.trim_ascii() {
                b"01" => Value::Bool(true),
                b"00" => Value::Bool(false),
                digits => {
                    let digits = digits.strip_suffix(b"L").unwrap_or(digits);
                    let int = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
                    int.map_or(Value::Opaque, Value::Int)
                }
            },
        };
        self.push(value);
        Ok(())
    }

    /// An integer of any length: little-endian, two's complement.
    fn long(&mut self, length: impl FnOnce(&mut Cursor<'_>) -> Result<u64, Failure>) -> Result<Value, Failure> {
        let length = length(self.cursor)?;
        if length > 8 {
            self.cursor.skip(length)?;
            return Ok(Value::Opaque);
        }
        let bytes = self.cursor.take(length)?;
        let is_negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if is_negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    fn length(&mut self, opcode: u8) -> Result<u64, Failure> {
        Ok(match opcode {
            b'U' | b'C' | 0x8c => self.cursor.array::<1>()?[0].into(),
            b'T' | b'X' | b'B' => u32::from_le_bytes(self.cursor.array()?).into(),
            _ => u64::from_le_bytes(self.cursor.array()?),
        })
    }

    fn count_text(&mut self, bytes: u64) -> Result<(), Failure> {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        match self.text_bytes {
            ..=MAX_TEXT_BYTES => Ok(()),
            _ => Err(self.fail(&format!("it claims more than `{MAX_TEXT_BYTES}` bytes of text"))),
        }
    }

    fn string(&mut self, opcode: u8) -> Result<(), Failure> {
        let text = match opcode {
            b'S' | b'V' => {
                let line = String::from_utf8_lossy(&self.cursor.line(MAX_LINE_BYTES)?).into_owned();
                let line = line.trim_end_matches('\r');
                // Escapes are left as they are: no tensor's name has one.
                if opcode == b'S' { line.trim_matches(['\'', '"']).to_owned() } else { line.to_owned() }
            }
            _ => {
                let length = self.length(opcode)?;
                self.count_text(length)?;
                String::from_utf8_lossy(self.cursor.take(length)?).into_owned()
            }
        };
        self.push(Value::Text(text.into()));
        Ok(())
    }

    fn bytes(&mut self, opcode: u8) -> Result<(), Failure> {
        let length = self.length(opcode)?;
        self.cursor.skip(length)?;
        self.push(Value::Opaque);
        Ok(())
    }

    fn sequence(&mut self, opcode: u8) -> Result<(), Failure> {
        match opcode {
            b')' => self.push(Value::Tuple(vec![])),
            b']' => self.push(Value::List(vec![])),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items));
            }
            0x85..=0x87 => {
                let mut items = (0x85..=opcode).map(|_| self.pop()).collect::<Result<Vec<Id>, _>>()?;
                items.reverse();
                self.push(Value::Tuple(items));
            }
            _ => {
                let items = if opcode == b'a' { vec![self.pop()?] } else { self.pop_to_mark()? };
                let list = self.top()?;
                match &mut self.values[list as usize] {
                    Value::List(list) => list.extend(items),
                    // An object that takes items, a deque for one.
                    Value::Call(_) => {}
                    _ => return Err(self.fail("what items are added to is no list")),
                }
            }
        }
        Ok(())
    }

    fn dict(&mut self, opcode: u8) -> Result<(), Failure> {
        match opcode {
            b'}' => self.push(Value::Dict(vec![])),
            b'd' => {
                let items = self.pop_pairs()?;
                self.push(Value::Dict(items));
            }
            _ => {
                let pairs = if opcode == b's' {
                    let value = self.pop()?;
                    vec![(self.pop()?, value)]
                } else {
                    self.pop_pairs()?
                };
                let dict = self.top()?;
                match &mut self.values[dict as usize] {
                    Value::Dict(items) => items.extend(pairs),
                    Value::Call(call) => call.items.extend(pairs),
                    _ => return Err(self.fail("what keys are added to is no dict")),
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, opcode: u8) -> Result<(), Failure> {
        if opcode != 0x8f {
            self.pop_to_mark()?;
        }
        match opcode {
            0x90 => drop(self.top()?),
            _ => self.push(Value::Opaque),
        }
        Ok(())
    }

    fn remember(&mut self, opcode: u8) -> Result<(), Failure> {
        let key = match opcode {
            b'q' => self.cursor.array::<1>()?[0].into(),
            b'r' => u32::from_le_bytes(self.cursor.array()?),
            b'p' => self.key_line()?,
            _ => self.memo.len() as u32,
        };
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<(), Failure> {
        let key = match opcode {
            b'h' => self.cursor.array::<1>()?[0].into(),
            b'j' => u32::from_le_bytes(self.cursor.array()?),
            _ => self.key_line()?,
        };
        let id = self.memo.get(&key).copied();
        let id = id.ok_or_else(|| self.fail(&format!("its memo has nothing under `{key}`")))?;
        self.stack.push(id);
        Ok(())
    }

    fn key_line(&mut self) -> Result<u32, Failure> {
        let line = self.cursor.line(MAX_LINE_BYTES)?;
        let key = std::str::from_utf8(line.trim_ascii()).ok().and_then(|t| t.parse().ok());
        key.ok_or_else(|| self.fail("a key of its memo is no number"))
    }

    /// `module.name`, from two lines.
    fn global_lines(&mut self) -> Result<Value, Failure> {
        let module = self.cursor.line(MAX_LINE_BYTES)?;
        let name = self.cursor.line(MAX_LINE_BYTES)?;
        Ok(global(&String::from_utf8_lossy(&module), &String::from_utf8_lossy(&name)))
    }

    fn outside(&mut self, opcode: u8) -> Result<(), Failure> {
        let value = match opcode {
            b'c' => self.global_lines()?,
            b'P' => {
                self.cursor.line(MAX_LINE_BYTES)?;
                Value::Opaque
            }
            b'Q' => Value::Persistent(self.pop()?),
            _ => {
                let (name, module) = (self.pop()?, self.pop()?);
                let path = match (&self.values[module as usize], &self.values[name as usize]) {
                    (Value::Text(m), Value::Text(n)) if m.len() + n.len() <= MAX_LINE_BYTES => global(m, n),
                    _ => return Err(self.fail("the name of a global is no short text")),
                };
                // Names may come from the memo: a small file can ask for a long one again and again.
                self.count_text(if let Value::Global(path) = &path { path.len() as u64 } else { 0 })?;
                path
            }
        };
        self.push(value);
        Ok(())
    }

    fn call(&mut self, opcode: u8) -> Result<(), Failure> {
        let (callable, args) = match opcode {
            b'i' => {
                let class = self.global_lines()?;
                let args = self.pop_to_mark()?;
                self.push(class);
                let class = self.pop()?;
                (class, self.stowed(Value::Tuple(args)))
            }
            b'o' => {
                let mut args = self.pop_to_mark()?;
                if args.is_empty() {
                    return Err(self.fail("an object has no class"));
                }
                let class = args.remove(0);
                (class, self.stowed(Value::Tuple(args)))
            }
            0x92 => {
                let (_keywords, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                (class, args)
            }
            _ => {
                let (args, callable) = (self.pop()?, self.pop()?);
                (callable, args)
            }
        };
        let value = match &self.values[callable as usize] {
            Value::Global(path) if matches!(&**path, "collections.OrderedDict" | "collections.defaultdict") => {
                let pairs = self.pairs_of(args);
                self.pairs += pairs.len();
                if self.pairs > MAX_OPCODES {
                    return Err(self.fail("it fills dicts from one list again and again"));
                }
                Value::Dict(pairs)
            }
            _ => Value::Call(Box::new(Call { callable, args, state: None, items: vec![] })),
        };
        self.push(value);
        Ok(())
    }

    /// Puts a value into the list, not on the stack.
    fn stowed(&mut self, value: Value) -> Id {
        self.values.push(value);
        (self.values.len() - 1) as Id
    }

    /// Python 2 gives an ordered dict its items as one list of pairs.
    fn pairs_of(&self, args: Id) -> Vec<(Id, Id)> {
        let Value::Tuple(args) = &self.values[args as usize] else { return vec![] };
        let Some(Value::List(pairs)) = args.first().map(|&list| &self.values[list as usize]) else { return vec![] };
        let pair = |&id: &Id| match &self.values[id as usize] {
            Value::List(pair) | Value::Tuple(pair) if pair.len() == 2 => Some((pair[0], pair[1])),
            _ => None,
        };
        pairs.iter().filter_map(pair).collect()
    }

    fn build(&mut self) -> Result<(), Failure> {
        let state = self.pop()?;
        let object = self.top()?;
        // What an ordered dict is given is PyTorch's `_metadata`.
        if let Value::Call(call) = &mut self.values[object as usize] {
            call.state = Some(state);
        }
        Ok(())
    }
}

fn global(module: &str, name: &str) -> Value {
    Value::Global(format!("{}.{}", module.trim_end_matches('\r'), name.trim_end_matches('\r')).into())
}
