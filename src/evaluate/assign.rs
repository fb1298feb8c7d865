//! Who belongs to whom: pairs of least cost, of largest weight, of nearest points.
//!
//! Owns: [`min_cost_assignment`], [`max_weight_pairs`], [`near_pairs`]. Must not know: nuclei, metrics.
//! Source: shortest augmenting paths as in Crouse 2016 ("On implementing 2D rectangular assignment algorithms"), which
//! SciPy's `linear_sum_assignment` follows, too.

use std::collections::HashMap;

/// Pairs each row with a column of its own, or each column with a row where there are fewer, so that the sum of costs
/// is least. Returns the column of each row.
///
/// # Shapes
/// - `cost`: `[rows, columns]`, finite
pub fn min_cost_assignment(cost: &[f64], rows: usize, columns: usize) -> Vec<Option<usize>> {
    if rows > columns {
        let turned: Vec<f64> = (0..columns).flat_map(|c| (0..rows).map(move |r| cost[r * columns + c])).collect();
        let mut of_row = vec![None; rows];
        for (c, r) in min_cost_assignment(&turned, columns, rows).into_iter().enumerate() {
            if let Some(r) = r {
                of_row[r] = Some(c);
            }
        }
        return of_row;
    }
    let mut state = Paths::new(rows, columns);
    for row in 0..rows {
        state.augment(cost, row);
    }
    state.column_of
}

/// Dual prices and the pairs so far.
struct Paths {
    columns: usize,
    row_price: Vec<f64>,
    column_price: Vec<f64>,
    column_of: Vec<Option<usize>>,
    row_of: Vec<Option<usize>>,
}

impl Paths {
    fn new(rows: usize, columns: usize) -> Self {
        let (row_price, column_price) = (vec![0.0; rows], vec![0.0; columns]);
        Self { columns, row_price, column_price, column_of: vec![None; rows], row_of: vec![None; columns] }
    }

    /// Gives `start` a column, moving others where that is cheaper.
    fn augment(&mut self, cost: &[f64], start: usize) {
        let n = self.columns;
        let (mut shortest, mut via) = (vec![f64::INFINITY; n], vec![start; n]);
        let (mut is_done, mut rows_seen) = (vec![false; n], vec![]);
        let (mut row, mut reached) = (start, 0.0);
        let sink = loop {
            rows_seen.push((row, reached));
            let (mut best, mut at) = (f64::INFINITY, None);
            for column in (0..n).filter(|&c| !is_done[c]) {
                let through = reached + cost[row * n + column] - self.row_price[row] - self.column_price[column];
                if through < shortest[column] {
                    (shortest[column], via[column]) = (through, row);
                }
                // Of equals a free column ends the search.
                let is_better = shortest[column] < best || (shortest[column] == best && self.row_of[column].is_none());
                if is_better {
                    (best, at) = (shortest[column], Some(column));
                }
            }
            let Some(column) = at else { return };
            is_done[column] = true;
            reached = best;
            match self.row_of[column] {
                None => break column,
                Some(next) => row = next,
            }
        };
        for (row, at) in rows_seen {
            self.row_price[row] += reached - at;
        }
        for column in (0..n).filter(|&c| is_done[c]) {
            self.column_price[column] -= reached - shortest[column];
        }
        let mut column = sink;
        loop {
            let row = via[column];
            self.row_of[column] = Some(row);
            let before = self.column_of[row].replace(column);
            match before {
                Some(next) if row != start => column = next,
                _ => break,
            }
        }
    }
}

/// Pairs of largest total weight, each row and column in at most one; by row. Edges of weight 0 or less are never taken.
///
/// Only rows and columns that are joined by edges are compared with each other, so time follows the number of edges.
pub fn max_weight_pairs(rows: usize, columns: usize, edges: &[(usize, usize, f64)]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for part in parts(rows, columns, edges) {
        let local = |all: &[usize]| -> HashMap<usize, usize> { all.iter().enumerate().map(|(i, &x)| (x, i)).collect() };
        let (row_at, column_at) = (local(&part.rows), local(&part.columns));
        let mut weight = vec![0.0; part.rows.len() * part.columns.len()];
        for &(row, column, w) in &part.edges {
            weight[row_at[&row] * part.columns.len() + column_at[&column]] = w;
        }
        let cost: Vec<f64> = weight.iter().map(|w: &f64| -w.max(0.0)).collect();
        let columns_of = min_cost_assignment(&cost, part.rows.len(), part.columns.len());
        for (row, column) in columns_of.into_iter().enumerate() {
            if let Some(column) = column.filter(|c| weight[row * part.columns.len() + c] > 0.0) {
                pairs.push((part.rows[row], part.columns[column]));
            }
        }
    }
    pairs.sort_unstable();
    pairs
}

/// Rows and columns joined by edges.
#[derive(Default)]
struct Part {
    rows: Vec<usize>,
    columns: Vec<usize>,
    edges: Vec<(usize, usize, f64)>,
}

fn parts(rows: usize, columns: usize, edges: &[(usize, usize, f64)]) -> Vec<Part> {
    fn root(parent: &mut [usize], mut at: usize) -> usize {
        while parent[at] != at {
            parent[at] = parent[parent[at]];
            at = parent[at];
        }
        at
    }
    let mut parent: Vec<usize> = (0..rows + columns).collect();
    for &(row, column, _) in edges {
        let (a, b) = (root(&mut parent, row), root(&mut parent, rows + column));
        parent[a.max(b)] = a.min(b);
    }
    let (mut parts, mut index): (Vec<Part>, HashMap<usize, usize>) = (Vec::new(), HashMap::new());
    let (mut row_seen, mut column_seen) = (vec![false; rows], vec![false; columns]);
    for &(row, column, weight) in edges {
        let at = *index.entry(root(&mut parent, row)).or_insert_with(|| {
            parts.push(Part::default());
            parts.len() - 1
        });
        let part = &mut parts[at];
        if !std::mem::replace(&mut row_seen[row], true) {
            part.rows.push(row);
        }
        if !std::mem::replace(&mut column_seen[column], true) {
            part.columns.push(column);
        }
        part.edges.push((row, column, weight));
    }
    parts
}

/// The most pairs of points that are at most `radius` apart, each point in at most one; of all such sets of pairs one
/// of least total distance. By the first.
///
/// # Units
/// All lengths in the same unit.
pub fn near_pairs(a: &[(f64, f64)], b: &[(f64, f64)], radius: f64) -> Vec<(usize, usize)> {
    let cell = |(x, y): (f64, f64)| ((x / radius.max(1e-9)).floor() as i64, (y / radius.max(1e-9)).floor() as i64);
    let mut cells: HashMap<(i64, i64), Vec<usize>> = HashMap::new();
    for (j, &point) in b.iter().enumerate() {
        cells.entry(cell(point)).or_default().push(j);
    }
    let mut edges = Vec::new();
    // More than any number of pairs can differ in distance: one pair more is worth any longer way.
    let worth = radius.max(1e-9) * (a.len().min(b.len()) + 1) as f64;
    for (i, &(x, y)) in a.iter().enumerate() {
        let (cx, cy) = cell((x, y));
        for near in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (cx + dx, cy + dy))) {
            for &j in cells.get(&near).into_iter().flatten() {
                let distance = (b[j].0 - x).hypot(b[j].1 - y);
                if distance <= radius {
                    edges.push((i, j, worth - distance));
                }
            }
        }
    }
    max_weight_pairs(a.len(), b.len(), &edges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Least cost over all ways to pair; the definition.
    fn by_trying(cost: &[f64], rows: usize, columns: usize) -> f64 {
        fn go(cost: &[f64], row: usize, rows: usize, columns: usize, used: &mut Vec<bool>) -> f64 {
            if row == rows {
                return 0.0;
            }
            let mut best = f64::INFINITY;
            for c in 0..columns {
                if !used[c] {
                    used[c] = true;
                    best = best.min(cost[row * columns + c] + go(cost, row + 1, rows, columns, used));
                    used[c] = false;
                }
            }
            best
        }
        go(cost, 0, rows, columns, &mut vec![false; columns])
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn no_other_pairing_costs_less(rows in 1usize..6, more in 0usize..3, seed in any::<u64>(), whole in any::<bool>()) {
            let columns = rows + more;
            let mut state = seed | 1;
            let cost: Vec<f64> = (0..rows * columns).map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let v = (state >> 40) as f64 / 1e6;
                if whole { (v % 4.0).floor() } else { v }
            }).collect();
            let found = min_cost_assignment(&cost, rows, columns);
            let mut used: Vec<usize> = found.iter().map(|c| c.unwrap()).collect();
            let sum: f64 = used.iter().enumerate().map(|(r, c)| cost[r * columns + c]).sum();
            used.sort_unstable();
            used.dedup();
            prop_assert_eq!(used.len(), rows);
            prop_assert!((sum - by_trying(&cost, rows, columns)).abs() < 1e-9);
            // Turned on its side it costs the same.
            let turned: Vec<f64> = (0..columns).flat_map(|c| (0..rows).map(|r| cost[r * columns + c]).collect::<Vec<_>>()).collect();
            let other: f64 = min_cost_assignment(&turned, columns, rows).iter().enumerate()
                .filter_map(|(c, r)| r.map(|r| turned[c * rows + r])).sum();
            prop_assert!((sum - other).abs() < 1e-9);
        }
    }

    #[test]
    fn as_many_points_as_can_be_are_paired_and_then_the_nearest() {
        // The nearest first would leave the other two alone.
        assert_eq!(near_pairs(&[(0.0, 0.0), (2.0, 0.0)], &[(1.5, 0.0), (4.0, 0.0)], 2.0), [(0, 0), (1, 1)]);
        assert_eq!(near_pairs(&[(0.0, 0.0), (5.0, 0.0)], &[(4.0, 0.0), (1.0, 0.0)], 9.0), [(0, 1), (1, 0)]);
        assert_eq!(near_pairs(&[(0.0, 0.0)], &[(3.0, 4.0)], 5.0), [(0, 0)]);
        assert!(near_pairs(&[(0.0, 0.0)], &[(3.0, 4.0)], 4.999).is_empty());
        assert!(near_pairs(&[], &[(3.0, 4.0)], 5.0).is_empty());
    }
}
