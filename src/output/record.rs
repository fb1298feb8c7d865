//! An instance as bytes, for the spool and the journal: compact, exact. A spool is read back only by the process that
//! wrote it; a journal by a later one, which does not trust it.
//!
//! Owns: the record's layout. Must not know: files, order.
//!
//! Layout: `u32` length of what follows; class; flags; centroid (2 f64); runs (varints: count, then row step, signed
//! column step, length); features (18 f64); class probabilities; rings, as signed steps where all their corners are
//! whole numbers, else as f64.

use crate::instances::{Features, Instance, Run};

const TRUNCATED: u8 = 1;
const WHOLE_RINGS: u8 = 2;
/// Number of measured features.
pub(super) const FEATURES: usize = 18;

/// The features in the order of the tables' columns.
pub(super) fn features_array(f: &Features) -> [f64; FEATURES] {
    [
        f.area_um2,
        f.perimeter_um,
        f.axis_major_length_um,
        f.axis_minor_length_um,
        f.eccentricity,
        f.solidity,
        f.extent,
        f.circularity,
        f.orientation,
        f.equivalent_diameter_um,
        f.feret_diameter_max_um,
        f.hematoxylin_od_mean,
        f.hematoxylin_od_std,
        f.eosin_od_mean,
        f.eosin_od_std,
        f.red_mean,
        f.green_mean,
        f.blue_mean,
    ]
}

fn features_from(v: [f64; FEATURES]) -> Features {
    Features {
        area_um2: v[0],
        perimeter_um: v[1],
        axis_major_length_um: v[2],
        axis_minor_length_um: v[3],
        eccentricity: v[4],
        solidity: v[5],
        extent: v[6],
        circularity: v[7],
        orientation: v[8],
        equivalent_diameter_um: v[9],
        feret_diameter_max_um: v[10],
        hematoxylin_od_mean: v[11],
        hematoxylin_od_std: v[12],
        eosin_od_mean: v[13],
        eosin_od_std: v[14],
        red_mean: v[15],
        green_mean: v[16],
        blue_mean: v[17],
    }
}

/// Appends `instance`.
pub(super) fn put(instance: &Instance, runs: &[Run], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let is_whole = |v: f64| v.abs() < 1e9 && v.fract() == 0.0;
    let whole = instance.rings.iter().flatten().flatten().all(|&v| is_whole(v));
    let flags = if instance.truncated { TRUNCATED } else { 0 } | if whole { WHOLE_RINGS } else { 0 };
    out.extend_from_slice(&[instance.class, flags]);
    out.extend_from_slice(&instance.centroid.0.to_le_bytes());
    out.extend_from_slice(&instance.centroid.1.to_le_bytes());
    put_varint(runs.len() as u64, out);
    let (mut y, mut x) = (0, 0);
    for run in runs {
        put_signed(i64::from(run.y) - y, out);
        put_signed(i64::from(run.x0) - x, out);
        put_varint(u64::from(run.x1.saturating_sub(run.x0)), out);
        (y, x) = (i64::from(run.y), i64::from(run.x0));
    }
    for value in features_array(&instance.features) {
        out.extend_from_slice(&value.to_le_bytes());
    }
    put_varint(instance.class_probs.len() as u64, out);
    for prob in &instance.class_probs {
        out.extend_from_slice(&prob.to_le_bytes());
    }
    put_varint(instance.rings.len() as u64, out);
    let mut last = [0, 0];
    for ring in &instance.rings {
        put_varint(ring.len() as u64, out);
        for point in ring {
            for (value, last) in point.iter().zip(&mut last) {
                if whole {
                    put_signed(*value as i64 - *last, out);
                    *last = *value as i64;
                } else {
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
    }
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

/// What painting needs of a record.
pub(super) struct Outline {
    /// Class.
    pub class: u8,
    /// Place within its page.
    pub order: Order,
    /// Index of its first run in the list given to [`take_outline`].
    pub first_run: usize,
}

/// Order of the records of a page: centroid's y and x, first run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    centroid: (f64, f64),
    first: (u32, u32),
}

impl Order {
    /// Where `instance` stands.
    pub(super) fn of(instance: &Instance) -> Self {
        let first = instance.runs.first().map_or((0, 0), |run| (run.y, run.x0));
        Self { centroid: instance.centroid, first }
    }

    /// Compares two of the same page.
    pub(super) fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let by_y = self.centroid.1.total_cmp(&other.centroid.1);
        by_y.then(self.centroid.0.total_cmp(&other.centroid.0)).then(self.first.cmp(&other.first))
    }
}

/// Reads a record's class and runs, and moves `bytes` past it.
pub(super) fn take_outline(bytes: &mut &[u8], runs: &mut Vec<Run>) -> Outline {
    let mut take = || {
        let mut record = Record::next(bytes)?;
        let (class, _, centroid) = record.head()?;
        let first_run = runs.len();
        record.each_run(|run| runs.push(run))?;
        let first = runs.get(first_run).map_or((0, 0), |run| (run.y, run.x0));
        Some(Outline { class, order: Order { centroid, first }, first_run })
    };
    take().expect(WHOLE)
}

/// Reads a record but of its runs only the first, and moves `bytes` past it.
pub(super) fn take_row(bytes: &mut &[u8]) -> Instance {
    take(bytes, 1).expect(WHOLE)
}

/// Reads a whole record, and moves `bytes` past it; nothing when the bytes are no record. In memory bounded by them.
pub(super) fn take_whole(bytes: &mut &[u8]) -> Option<Instance> {
    take(bytes, usize::MAX)
}

/// Of what this process wrote a moment ago.
const WHOLE: &str = "the spool holds whole records";

fn take(bytes: &mut &[u8], runs_max: usize) -> Option<Instance> {
    let mut record = Record::next(bytes)?;
    let (class, flags, centroid) = record.head()?;
    let mut runs = Vec::new();
    record.each_run(|run| {
        if runs.len() < runs_max {
            runs.push(run);
        }
    })?;
    let mut features = [0.0; FEATURES];
    for value in &mut features {
        *value = record.f64()?;
    }
    let class_probs = (0..record.varint()?).map(|_| record.array().map(f32::from_le_bytes)).collect::<Option<_>>()?;
    let mut last = [0_i64; 2];
    let mut rings = Vec::new();
    for _ in 0..record.varint()? {
        let points = record.varint()? as usize;
        // A point takes two bytes at least.
        let mut ring = Vec::with_capacity(points.min(record.0.len() / 2));
        for _ in 0..points {
            let mut point = [0.0; 2];
            for (value, last) in point.iter_mut().zip(&mut last) {
                if flags & WHOLE_RINGS != 0 {
                    *last = last.checked_add(record.signed()?)?;
                    *value = *last as f64;
                } else {
                    *value = record.f64()?;
                }
            }
            ring.push(point);
        }
        rings.push(ring);
    }
    let (features, truncated) = (features_from(features), flags & TRUNCATED != 0);
    Some(Instance { class, class_probs, runs, centroid, rings, truncated, features })
}

/// The bytes of a record that are still to be read.
struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    fn next(bytes: &mut &'a [u8]) -> Option<Self> {
        let mut head = Record(bytes);
        let len = u32::from_le_bytes(head.array()?) as usize;
        let (record, rest) = head.0.split_at_checked(len)?;
        *bytes = rest;
        Some(Self(record))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn f64(&mut self) -> Option<f64> {
        self.array().map(f64::from_le_bytes)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let v = self.varint()?;
        Some((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    fn head(&mut self) -> Option<(u8, u8, (f64, f64))> {
        let [class, flags] = self.array()?;
        Some((class, flags, (self.f64()?, self.f64()?)))
    }

    fn each_run(&mut self, mut run: impl FnMut(Run)) -> Option<()> {
        let (mut y, mut x) = (0_i64, 0_i64);
        for _ in 0..self.varint()? {
            y = y.checked_add(self.signed()?)?;
            x = x.checked_add(self.signed()?)?;
            let x1 = x.checked_add_unsigned(self.varint()?)?;
            run(Run { y: y.try_into().ok()?, x0: x.try_into().ok()?, x1: x1.try_into().ok()? });
        }
        Some(())
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(value: i64, out: &mut Vec<u8>) {
    put_varint(((value << 1) ^ (value >> 63)) as u64, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back_exactly(
            class in 0_u8..9,
            runs in proptest::collection::vec((0_u32..200_000, 0_u32..200_000, 1_u32..5000), 0..40),
            corners in proptest::collection::vec((-5.0..2e5, 0.0..2e5), 0..30),
            whole: bool,
            truncated: bool,
            numbers in proptest::array::uniform18(any::<f64>()),
        ) {
            let runs: Vec<_> = runs.into_iter().map(|(y, x0, n)| Run { y, x0, x1: x0 + n }).collect();
            let corner = |(x, y): (f64, f64)| if whole { [x.round(), y.round()] } else { [x, y] };
            let ring: Vec<_> = corners.into_iter().map(corner).collect();
            let numbers = numbers.map(|v| if v.is_nan() { 0.5 } else { v });
            let instance = Instance {
                class,
                class_probs: vec![0.25, 0.75],
                runs,
                centroid: (numbers[0], numbers[1]),
                rings: vec![ring.clone(), ring],
                truncated,
                features: features_from(numbers),
            };
            let mut bytes = Vec::new();
            put(&instance, &instance.runs, &mut bytes);
            put(&instance, &instance.runs, &mut bytes);
            prop_assert_eq!(&take_whole(&mut bytes.as_slice()).unwrap(), &instance);
            let mut rest = bytes.as_slice();
            let row = Instance { runs: instance.runs.iter().take(1).copied().collect(), ..instance.clone() };
            prop_assert_eq!(&take_row(&mut rest), &row);
            let mut outlined = Vec::new();
            let outline = take_outline(&mut rest, &mut outlined);
            prop_assert!(rest.is_empty());
            prop_assert_eq!((outline.class, outline.first_run), (class, 0));
            prop_assert_eq!(outlined, instance.runs);
        }
    }
}
