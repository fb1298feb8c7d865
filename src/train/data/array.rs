//! An array of numbers or texts as a file holds it.
//!
//! Owns: [`Array`], [`Element`]. Must not know: files.

/// Arrays larger than this are refused: a whole fold of pictures is read row by row.
pub const MAX_ARRAY_BYTES: u64 = 1 << 30;

/// What an array holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Whole numbers from 0; bytes each.
    Unsigned(usize),
    /// Whole numbers; bytes each.
    Signed(usize),
    /// 32- or 64-bit floats; bytes each.
    Float(usize),
    /// Text of this many UTF-32 characters.
    Text(usize),
}

impl Element {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Self::Unsigned(n) | Self::Signed(n) | Self::Float(n) => n,
            Self::Text(n) => 4 * n,
        }
    }
}

/// An array, last axis fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// What it holds.
    pub element: Element,
    /// Little-endian.
    pub bytes: Vec<u8>,
}

impl Array {
    /// Number of elements of `shape`, when an array of them is not too large.
    ///
    /// # Errors
    /// In words: too large.
    pub fn checked_len(shape: &[usize], element: Element) -> Result<usize, String> {
        let len = shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis));
        let bytes = len.and_then(|n| n.checked_mul(element.bytes()));
        match (len, bytes) {
            (Some(len), Some(bytes)) if bytes as u64 <= MAX_ARRAY_BYTES => Ok(len),
            _ => Err(format!("an array of {shape:?} elements, expected at most {} MiB", MAX_ARRAY_BYTES >> 20)),
        }
    }

    /// Every number; nothing of texts.
    pub fn numbers(&self) -> impl Iterator<Item = f64> + '_ {
        let (element, size) = (self.element, self.element.bytes().max(1));
        self.bytes.chunks_exact(size).map(move |bytes| {
            let mut wide = [0_u8; 8];
            wide[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
            let bits = u64::from_le_bytes(wide);
            match element {
                Element::Unsigned(_) => bits as f64,
                Element::Signed(n) => {
                    let unused = 64 - 8 * n.min(8) as u32;
                    (((bits << unused) as i64) >> unused) as f64
                }
                Element::Float(4) => f64::from(f32::from_bits(bits as u32)),
                Element::Float(_) => f64::from_bits(bits),
                Element::Text(_) => f64::NAN,
            }
        })
    }

    /// Every number as a label: whole, from 0 to 2³² − 1.
    ///
    /// # Errors
    /// In words: the first number that is none.
    pub fn labels(&self) -> Result<Vec<u32>, String> {
        self.numbers()
            .map(|v| {
                let label = v as u32;
                if f64::from(label) == v {
                    Ok(label)
                } else {
                    Err(format!("a label of `{v}`, expected a whole number"))
                }
            })
            .collect()
    }

    /// Every text; nothing of numbers.
    pub fn texts(&self) -> Vec<String> {
        let Element::Text(n) = self.element else { return vec![] };
        let text = |bytes: &[u8]| {
            let chars = bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
            chars.take_while(|&c| c != 0).map(|c| char::from_u32(c).unwrap_or('\u{fffd}')).collect()
        };
        self.bytes.chunks_exact((4 * n).max(1)).map(text).collect()
    }

    /// The same numbers, first axis fastest, brought to our order.
    pub(super) fn in_our_order(self) -> Self {
        let size = self.element.bytes();
        let rank = self.shape.len();
        if rank < 2 {
            return self;
        }
        let mut bytes = vec![0; self.bytes.len()];
        let mut at = vec![0_usize; rank];
        for from in self.bytes.chunks_exact(size.max(1)) {
            let to = at.iter().zip(&self.shape).fold(0, |index, (&i, &n)| index * n + i);
            bytes[to * size..][..size].copy_from_slice(from);
            for (i, &n) in at.iter_mut().zip(&self.shape) {
                *i += 1;
                if *i < n {
                    break;
                }
                *i = 0;
            }
        }
        Self { bytes, ..self }
    }

    /// Brings big-endian elements to our order.
    pub(super) fn swap_bytes(&mut self) {
        let size = match self.element {
            Element::Text(_) => 4,
            element => element.bytes(),
        };
        self.bytes.chunks_exact_mut(size.max(1)).for_each(<[u8]>::reverse);
    }
}
