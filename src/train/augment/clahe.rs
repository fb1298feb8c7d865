//! Contrast-limited adaptive histogram equalisation.
//!
//! Owns: [`equalise`]. Must not know: what is drawn.
//! Source: Zuiderveld 1994, as in OpenCV's `createCLAHE` with 8×8 tiles. Differs: works on the grey value, and adds its
//! change to all three colours.

const TILES: usize = 8;

/// `clip_limit` times the mean count is the most that a grey value's count counts.
pub(super) fn equalise(rgb: &mut [u8], w: usize, h: usize, clip_limit: f64) {
    if w < TILES || h < TILES {
        return;
    }
    let grey: Vec<u8> = rgb
        .chunks_exact(3)
        .map(|px| ((77 * u32::from(px[0]) + 150 * u32::from(px[1]) + 29 * u32::from(px[2]) + 128) >> 8) as u8)
        .collect();
    let edge = |k: usize, n: usize| k * n / TILES;
    let mut tables = vec![[0_u8; 256]; TILES * TILES];
    for (k, table) in tables.iter_mut().enumerate() {
        let (i, j) = (k % TILES, k / TILES);
        let mut counts = [0_u32; 256];
        for y in edge(j, h)..edge(j + 1, h) {
            grey[y * w + edge(i, w)..y * w + edge(i + 1, w)].iter().for_each(|&v| counts[usize::from(v)] += 1);
        }
        *table = curve(&mut counts, clip_limit);
    }
    // Of each column the tiles to both sides and how far it is between their middles, in 1/256.
    let between = |at: usize, n: usize| {
        let t = (at as f32 + 0.5) * TILES as f32 / n as f32 - 0.5;
        let first = t.floor().clamp(0.0, (TILES - 1) as f32) as usize;
        let share = ((t - first as f32).clamp(0.0, 1.0) * 256.0) as i32;
        (first, (first + 1).min(TILES - 1), share)
    };
    let columns: Vec<_> = (0..w).map(|x| between(x, w)).collect();
    for (y, (row, grey)) in rgb.chunks_exact_mut(w * 3).zip(grey.chunks_exact(w)).enumerate() {
        let (top, bottom, down) = between(y, h);
        for ((px, &v), &(left, right, across)) in row.chunks_exact_mut(3).zip(grey).zip(&columns) {
            let at = |j: usize, i: usize| i32::from(tables[j * TILES + i][usize::from(v)]);
            let along = |j: usize| at(j, left) * (256 - across) + at(j, right) * across;
            let new = (along(top) * (256 - down) + along(bottom) * down + (1 << 15)) >> 16;
            let change = new - i32::from(v);
            px.iter_mut().for_each(|p| *p = (i32::from(*p) + change).clamp(0, 255) as u8);
        }
    }
}

/// The grey value each becomes in a tile.
fn curve(counts: &mut [u32; 256], clip_limit: f64) -> [u8; 256] {
    let px: u32 = counts.iter().sum();
    let limit = ((clip_limit * f64::from(px) / 256.0) as u32).max(1);
    let mut over = 0;
    for count in counts.iter_mut() {
        over += count.saturating_sub(limit);
        *count = (*count).min(limit);
    }
    let (each, rest) = (over / 256, over % 256);
    let mut sum = 0;
    std::array::from_fn(|v| {
        // What is left over is dealt to values evenly spread.
        let extra = u32::from((v as u32 * rest) / 256 != ((v as u32 + 1) * rest) / 256);
        sum += counts[v] + each + extra;
        (u64::from(sum) * 255 / u64::from(px.max(1))).min(255) as u8
    })
}
