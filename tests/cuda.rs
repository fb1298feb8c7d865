//! The CUDA kernels, run by the emulation: every step and every network gives what the processor's kernels give.

use crate::cases::{CASES, widen};
use crate::emulation::{Build, emulation, run, toolkit};
use crate::every_network::{every_network, graph};
use std::{collections::BTreeSet, path::PathBuf, sync::Mutex};
use wsi_run::{
    config::settings,
    infer::{
        Compiled, HeadRows, Isa, Options, Precision,
        cuda::{
            Batch, Chip, CudaExecute, CudaNetwork, Format, HeadForm, Launches, StainPass, devices, share::segments,
        },
    },
    model::{
        ExecuteOptions, Head, HeadValues, StainTables,
        graph::{Activation, Conv, Graph, NodeId, Pool, ResizeMode},
        head_plans,
        weights::{Normalisation, Weights},
        zoo::zoo,
    },
    pixels::stain::{self, StainTransform},
};

/// Byte `i` of image `n`.
fn image(n: usize, (h, w): (usize, usize)) -> Vec<u8> {
    let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(97 * n as u32) >> 13) as u8;
    (0..h * w * 3).map(byte).collect()
}

/// `[h, w, c]` of each head of each image.
type Heads = Vec<Vec<Vec<f32>>>;

/// What the processor's kernels give in single precision.
fn expected(graph: &Graph, weights: &Weights, images: &[Vec<u8>], size: (usize, usize), kind: usize) -> Heads {
    let options = Options { precision: Precision::F32, isa: Isa::best(), size: None };
    let compiled = Compiled::new(graph, weights, options).unwrap();
    let plan = compiled.plan(size.0, size.1).unwrap();
    let blank: Vec<Vec<f32>> = plan.heads.iter().map(|h| vec![0.0; h.slot.layout.span()]).collect();
    let all = Mutex::new(vec![blank; images.len()]);
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let sink = |r: HeadRows<'_>| {
        all.lock().unwrap()[r.image][r.head][r.first_row * r.w * r.c..][..r.values.len()].copy_from_slice(r.values);
    };
    let kinds = vec![kind; images.len()];
    compiled.run_of_kinds(&images, &kinds, size, &Normalisation::IMAGENET, &sink).unwrap();
    all.into_inner().unwrap()
}

/// A job: launches, regions, and what says where heads are.
struct Job {
    launches: Launches,
    regions: Vec<Vec<u8>>,
    format: Format,
}

/// How a job is made.
#[derive(Clone, Copy)]
struct Way<'a> {
    format: Format,
    cache_bytes: Option<usize>,
    kind: usize,
    heads: &'a [HeadForm],
    wgmma: bool,
}

const HALF: Way<'static> = Way { format: Format::Half, cache_bytes: None, kind: 0, heads: &[], wgmma: false };

impl Job {
    fn new(graph: &Graph, weights: &Weights, images: &[Vec<u8>], (h, w): (usize, usize), way: Way<'_>) -> Self {
        let network = CudaNetwork::new(graph, weights, way.format).unwrap();
        let plan = network.plan(h, w).unwrap();
        let mut store = network.store();
        let batch = Batch {
            images: images.len(),
            kind: way.kind,
            normalisation: &Normalisation::IMAGENET,
            stain: None,
            heads: way.heads,
            wgmma: way.wgmma,
            // One multiprocessor is never idle, however few the images are.
            chip: way.cache_bytes.map(|cache_bytes| Chip { cache_bytes, multiprocessors: 1 }),
        };
        let launches = network.launches(&plan, &batch, &mut store);
        // Numbers that nobody wrote are NaN.
        let mut regions: Vec<Vec<u8>> = launches.region_bytes.iter().map(|bytes| vec![0xff; *bytes]).collect();
        regions[0] = store.bytes().to_vec();
        regions[2] = images.concat();
        Self { launches, regions, format: way.format }
    }

    /// Runs it and returns what the heads hold.
    fn heads(&self, program: &std::path::Path, environment: &[(&str, &str)]) -> Result<Heads, String> {
        Ok(self.heads_of(&run(program, &self.regions, &self.launches.launches, environment)?))
    }

    fn heads_of(&self, regions: &[Vec<u8>]) -> Heads {
        let arena = &regions[1];
        let value = |i: usize| self.format.value(u16::from_le_bytes([arena[2 * i], arena[2 * i + 1]]));
        let images = arena.len() / 2 / self.launches.arena_numbers;
        let head = |image: usize, slot: &wsi_run::infer::Slot| {
            let l = slot.layout;
            let first = image * self.launches.arena_numbers + slot.offset;
            let at = move |i: usize| (i / (l.w * l.c), i / l.c % l.w, i % l.c);
            (0..l.h * l.w * l.c)
                .map(at)
                .map(|(y, x, c)| value(first + y * l.row_stride + x * l.pixel_stride + c))
                .collect()
        };
        (0..images).map(|image| self.launches.heads.iter().map(|slot| head(image, slot)).collect()).collect()
    }

    fn kernels(&self) -> BTreeSet<&'static str> {
        self.launches.launches.iter().map(|l| l.kernel).collect()
    }
}

/// Largest difference over largest value.
fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |m: f32, d| if d.is_nan() { f32::INFINITY } else { m.max(d) }) / largest
}

fn farthest(found: &Heads, expected: &Heads) -> f32 {
    let heads = found.iter().flatten().zip(expected.iter().flatten());
    heads.map(|(found, expected)| distance(found, expected)).fold(0.0, f32::max)
}

fn fast(format: Format) -> Option<PathBuf> {
    emulation(Build::Fast, format)
}

#[test]
fn every_kernel_gives_what_the_processors_kernel_gives() {
    let (Some(half), Some(brain)) = (fast(Format::Half), fast(Format::Bf16)) else { return };
    let mut seen = BTreeSet::new();
    for case in CASES {
        let graph = case.graph();
        let weights = Weights::from_names(&graph);
        let images = [image(0, case.size), image(1, case.size), image(2, case.size)];
        let expected = expected(&graph, &weights, &images, case.size, 0);
        for (format, program, tolerance) in [(Format::Half, &half, 4e-3), (Format::Bf16, &brain, 3e-2)] {
            let job = Job::new(&graph, &weights, &images, case.size, Way { format, ..HALF });
            let found = job.heads(program, &[]).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            let off = farthest(&found, &expected);
            println!("{off:.1e} {format:?} {}: {:?}", case.name, job.kernels());
            assert!(off < tolerance, "{}, {format:?}: {off}", case.name);
            for kernel in case.kernels {
                assert!(job.kernels().contains(kernel), "{}: no {kernel} in {:?}", case.name, job.kernels());
            }
            seen.extend(job.kernels());
        }
    }
    // What the sources define, but for the large blocks and the heads, which other tests run.
    let sources =
        ["conv", "conv_wgmma", "depthwise", "elementwise", "norm", "pool", "attention", "pixels", "heads", "canvas"];
    let text =
        sources.map(|f| std::fs::read_to_string(format!("{}/kernels/{f}.cu", env!("CARGO_MANIFEST_DIR"))).unwrap());
    let defined = text.iter().flat_map(|t| t.lines().filter_map(|l| l.strip_prefix("KERNEL(")?.split(',').next()));
    let unseen: Vec<&str> = defined.filter(|name| !seen.contains(name)).collect();
    let large = ["conv_128x128_g8", "conv_128x64_g8", "conv_wgmma_128x128", "conv_wgmma_128x256"];
    assert_eq!(unseen, [&large[..], &["head_map", "canvas_add", "canvas_mean"]].concat());
}

#[test]
fn large_blocks_give_the_same_as_small_ones() {
    let Some(program) = fast(Format::Half) else { return };
    // Enough rows for every multiprocessor of an H100 to have a block.
    for (c, kernel, px) in [(128, "conv_128x128_g8", 132), (64, "conv_128x64_g8", 132)] {
        let mut g = Graph::new("case", 3);
        let x = g.input();
        let x = g.conv("a", x, Conv::new(16, 1));
        let x = g.conv("b", x, Conv::new(c, 3).pad(1));
        g.output("out", Head::Semantic, x);
        let weights = Weights::from_names(&g);
        let images = [image(0, (px, px))];
        let job = Job::new(&g, &weights, &images, (px, px), HALF);
        assert!(job.kernels().contains(kernel), "{:?}", job.kernels());
        let off = farthest(&job.heads(&program, &[]).unwrap(), &expected(&g, &weights, &images, (px, px), 0));
        assert!(off < 2e-3, "{kernel}: {off}");
    }
}

/// A network whose wide convolutions fill the multiprocessors: one of channels that are no whole granules, one behind a
/// normalisation, one behind a gate and before a sum.
fn wide_graph() -> Graph {
    let mut g = Graph::new("case", 3);
    let x = g.input();
    let x = g.conv("narrow", x, Conv::new(19, 1));
    let wide = g.conv("wide", x, Conv::new(256, 3).pad(1));
    let y = g.batch_norm("norm", wide);
    let y = g.relu(y);
    let y = g.conv("normed", y, Conv::new(128, 1));
    let side = g.conv("side", wide, Conv::new(128, 1));
    let pooled = g.global_avg_pool(y);
    let gate = g.sigmoid(pooled);
    let z = g.multiply(y, gate);
    let z = g.conv("gated", z, Conv::new(128, 1));
    let z = g.add(&[z, side]);
    let z = g.relu(z);
    g.output("out", Head::Semantic, z);
    g
}

#[test]
fn products_of_warpgroups_are_those_of_warps() {
    let Some(program) = fast(Format::Half) else { return };
    let (g, size) = (wide_graph(), (131, 133));
    let weights = Weights::from_names(&g);
    let images = [image(0, size)];
    let wide = Job::new(&g, &weights, &images, size, Way { wgmma: true, ..HALF });
    let kernels: Vec<&str> = wide.launches.launches.iter().map(|l| l.kernel).filter(|k| k.contains("wgmma")).collect();
    assert_eq!(kernels, [&["conv_wgmma_128x256"][..], &["conv_wgmma_128x128"; 3]].concat());
    let narrow = Job::new(&g, &weights, &images, size, HALF);
    assert!(narrow.kernels().iter().all(|k| !k.contains("wgmma")));
    let (a, b) = (wide.heads(&program, &[]).unwrap(), narrow.heads(&program, &[]).unwrap());
    // Sums of 16 products are the same, in another order within a piece.
    let off = farthest(&a, &b);
    assert!(off < 2e-3, "{off}");
    // Few rows: the other kernels, on the same weights.
    let few = Job::new(&g, &weights, &[image(0, (9, 8))], (9, 8), Way { wgmma: true, ..HALF });
    assert!(few.kernels().iter().all(|k| !k.contains("wgmma")));
    let off = farthest(&few.heads(&program, &[]).unwrap(), &expected(&g, &weights, &[image(0, (9, 8))], (9, 8), 0));
    assert!(off < 4e-3, "{off}");
    // One block of each: all orders and arrivals of products.
    let mut launches = wide.launches.launches.clone();
    launches.iter_mut().filter(|l| l.kernel.contains("wgmma")).for_each(|l| l.grid = [2, 1, 1]);
    let mut regions = wide.regions.clone();
    regions[1].fill(0);
    let some = |environment: &[(&str, &str)]| run(&program, &regions, &launches, environment).unwrap()[1].clone();
    let first = some(&[]);
    for other in [("EMULATION_ORDER", "reverse"), ("EMULATION_ORDER", "shuffled"), ("EMULATION_COPIES", "eager")] {
        assert!(first == some(&[other]), "{other:?}");
    }
}

#[test]
fn the_order_of_threads_and_the_arrival_of_copies_change_nothing() {
    let Some(program) = fast(Format::Half) else { return };
    for case in CASES {
        let graph = case.graph();
        let weights = Weights::from_names(&graph);
        let job = Job::new(&graph, &weights, &[image(0, case.size)], case.size, HALF);
        let first = job.heads(&program, &[]).unwrap();
        for environment in
            [("EMULATION_ORDER", "reverse"), ("EMULATION_ORDER", "shuffled"), ("EMULATION_COPIES", "eager")]
        {
            let other = job.heads(&program, &[environment]).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            assert!(first == other, "{}: {environment:?}", case.name);
        }
    }
}

/// A job of each case, and one of products of warpgroups; with their names.
fn jobs() -> Vec<(&'static str, Job)> {
    let job = |graph: &Graph, size: (usize, usize), wgmma: bool| {
        Job::new(graph, &Weights::from_names(graph), &[image(0, size)], size, Way { wgmma, ..HALF })
    };
    let cases = CASES.iter().map(|case| (case.name, job(&case.graph(), case.size, false)));
    let mut wide = job(&wide_graph(), (131, 133), true);
    // Of the many blocks two, behind numbers that others would have written.
    wide.launches.launches.iter_mut().for_each(|l| l.grid = [l.grid[0].min(2), 1, 1]);
    wide.regions[1].fill(0);
    wide.regions[3].fill(0);
    cases.chain([("products of warpgroups", wide)]).collect()
}

#[test]
fn the_address_sanitizer_finds_no_access_outside() {
    let Some(program) = emulation(Build::Address, Format::Half) else { return };
    for (name, job) in jobs() {
        if let Err(e) = run(&program, &job.regions, &job.launches.launches, &[("EMULATION_CORES", "1")]) {
            panic!("{name}: {e}");
        }
    }
}

#[test]
fn the_thread_sanitizer_finds_no_race() {
    let Some(program) = emulation(Build::Threads, Format::Half) else { return };
    let mut seen = BTreeSet::new();
    for (name, mut job) in jobs() {
        // An OS thread per CUDA thread is slow: one block of each kernel, on zeros where others would have written.
        let mut launches: Vec<_> = job.launches.launches.iter().filter(|l| seen.insert(l.kernel)).cloned().collect();
        launches.iter_mut().for_each(|l| l.grid = [1; 3]);
        job.regions[1].fill(0);
        job.regions[3].fill(0);
        match run(&program, &job.regions, &launches, &[("TSAN_OPTIONS", "halt_on_error=1")]) {
            Ok(_) => {}
            // A machine may forbid what the sanitizer needs.
            Err(e) if e.contains("unexpected memory mapping") => {
                return println!("skipped: the sanitizer does not start");
            }
            Err(e) => panic!("{name}: {e}"),
        }
    }
    assert!(seen.contains("conv_wgmma_128x256") && seen.contains("conv_wgmma_128x128"));
}

#[test]
fn a_pyramids_merge_is_one_kernel() {
    let case = CASES.iter().find(|case| case.name.starts_with("a pyramid")).unwrap();
    let graph = case.graph();
    let job = Job::new(&graph, &Weights::from_names(&graph), &[image(0, case.size)], case.size, HALF);
    // The image, its widening, the level above, the merge, its smoothing.
    assert_eq!(job.launches.launches.len(), 5, "{:?}", job.kernels());
}

#[test]
fn images_in_small_batches_give_the_same_bits() {
    let Some(program) = fast(Format::Half) else { return };
    for (name, px, cache_bytes) in [
        ("crescent_dense_net", 64, 300_000),
        ("light_mu_seg", 64, 200_000),
        ("stardist_unet", 48, 200_000),
        ("u_net_mit_b0", 64, 200_000),
    ] {
        let graph = graph(name);
        let weights = Weights::from_names(&graph);
        let images = [0, 1, 2].map(|n| image(n, (px, px)));
        let whole = Job::new(&graph, &weights, &images, (px, px), HALF);
        let few = Job::new(&graph, &weights, &images, (px, px), Way { cache_bytes: Some(cache_bytes), ..HALF });
        assert!(few.launches.launches.len() > whole.launches.launches.len(), "{name}");
        let (a, b) = (whole.heads(&program, &[]).unwrap(), few.heads(&program, &[]).unwrap());
        // Blocks of another size add in the same order, so nothing may differ.
        assert!(a == b, "{name}");
    }
}

/// Sixty-four images on an H100, of whose cache maps have 30 MB.
#[test]
fn a_dense_layer_is_two_kernels_and_its_block_stays_in_the_cache() {
    let chip = Chip { cache_bytes: 30 << 20, multiprocessors: 132 };
    let graph = graph("crescent_dense_net").for_use();
    let network = CudaNetwork::new(&graph, &Weights::from_names(&graph), Format::Half).unwrap();
    let plan = network.plan(224, 224).unwrap();
    // DenseNet-121: 58 layers of two convolutions, the stem, three transitions; nothing but pools, pixels and the end beside.
    let convs = plan.steps.iter().filter(|step| step.macs > 0).count();
    assert!((116 + 4..=116 + 5).contains(&convs), "{convs} convolutions");
    assert!(plan.steps.len() <= convs + 8, "{} steps", plan.steps.len());
    let segments = segments(&plan, 64, Some(chip), &|_| false);
    let batch = Batch {
        images: 64,
        kind: 0,
        normalisation: &Normalisation::IMAGENET,
        stain: None,
        heads: &[],
        chip: Some(chip),
        wgmma: false,
    };
    let launches = network.launches(&plan, &batch, &mut network.store());
    let parts = |step: usize| {
        let of = segments.iter().find(|s| s.steps.contains(&step)).unwrap();
        (of, 64_usize.div_ceil(of.images))
    };
    for (i, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.macs > 0) {
        let count = launches.launches.iter().filter(|l| l.step == i).count();
        assert_eq!(count, parts(i).1, "{}: one kernel for each part of the batch", step.name);
    }
    // The blocks at 56² and 28² px, whose concatenations of 64 images are 103 and 51 MB.
    for side in [56, 28] {
        let concat = plan.buffers.iter().enumerate().filter(|(i, _)| {
            plan.steps
                .iter()
                .any(|s| s.output.buffer == *i && s.output.layout.h == side && s.output.layout.pixel_stride >= 256)
        });
        let (buffer, of) = concat.max_by_key(|(_, b)| b.last_step - b.first_step).unwrap();
        let layers: Vec<usize> = (of.first_step..of.last_step)
            .filter(|i| plan.steps[*i].inputs.iter().any(|slot| slot.buffer == buffer))
            .collect();
        assert!(layers.len() >= 6, "{side}: {} layers", layers.len());
        // All, but perhaps the first, which may go with what is before it, in one run of a few images.
        let run_of_last = parts(*layers.last().unwrap()).0;
        let together = layers.iter().filter(|i| run_of_last.steps.contains(i)).count();
        assert!(together + 1 >= layers.len(), "{side}: {together} of {} layers", layers.len());
        let bytes = 2 * run_of_last.images * of.floats;
        assert!(run_of_last.images < 64 && bytes <= chip.cache_bytes, "{side}: {bytes} bytes of {run_of_last:?}");
        // What lives within a layer is not written to memory: all images take turns in its place.
        assert!(run_of_last.shared.len() >= together - 1, "{side}: {run_of_last:?}");
    }
}

#[test]
fn head_maps_are_those_the_processor_makes() {
    let Some(program) = fast(Format::Half) else { return };
    for (name, px) in [("hover_net_fast", 96), ("stardist_unet", 32), ("light_mu_seg", 64)] {
        let graph = graph(name).for_use();
        let weights = Weights::from_names(&graph);
        let plans = head_plans(&graph, 1);
        // Of one half the middle, as where tiles overlap.
        let core_px = |i: usize| i.is_multiple_of(2).then_some(20);
        let forms: Vec<HeadForm> = (0..).zip(&plans).map(|(i, plan)| HeadForm::new(plan, core_px(i))).collect();
        let images = [image(0, (px, px)), image(1, (px, px))];
        let job = Job::new(&graph, &weights, &images, (px, px), Way { heads: &forms, ..HALF });
        let regions = run(&program, &job.regions, &job.launches.launches, &[]).unwrap();
        let values = job.heads_of(&regions);
        for (n, ((plan, offset), form)) in plans.iter().zip(&job.launches.map_offsets).zip(&forms).enumerate() {
            let l = job.launches.heads[plan.output].layout;
            for (i, values) in values.iter().enumerate() {
                let mut map = plan.blank(l.w, l.h);
                let (data, channels) = (&values[plan.output][..], l.c);
                plan.fill(
                    &mut map,
                    0,
                    &HeadValues { data, channels, h: l.h, w: l.w, pixel_stride: channels, channel_stride: 1 },
                );
                let map = core_px(n).map_or(map.clone(), |px| map.middle(px));
                assert_eq!(form.part(l.h, l.w)[2..], [map.h as usize, map.w as usize]);
                let bytes = &regions[4][offset + 2 * i * map.data.len()..][..2 * map.data.len()];
                let found: Vec<i16> = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
                let off = found.iter().zip(&map.data).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).max();
                assert!(off <= Some(1), "{name}, {:?}, image {i}: {off:?}", plan.spec);
            }
        }
    }
}

/// In bfloat16: in half precision the emulation stops at a NaN, which says there that something was read too early.
#[test]
fn a_nan_stays_one_in_every_activation_as_on_the_processor() {
    use Activation::{Gelu, Relu, Relu6, Sigmoid, Silu};
    let Some(program) = fast(Format::Bf16) else { return };
    for activation in [Relu, Relu6, Gelu, Silu, Sigmoid, Activation::Softmax] {
        let mut g = Graph::new("case", 3);
        let x = g.input();
        let x = widen(&mut g, x, 24);
        // Behind a product, and by itself.
        let once = g.activation(x, activation);
        let pooled = g.avg_pool(x, Pool { kernel: 1, stride: 1, pad: 0 });
        let alone = g.activation(pooled, activation);
        g.output("once", Head::Semantic, once);
        g.output("alone", Head::Semantic, alone);
        let plain = Weights::from_names(&g);
        let weights = Weights::from_fn(&g, plain.metadata.clone(), |p| {
            let mut values = plain.get(&p.name).unwrap().values.clone();
            if p.name == "widen.bias" {
                values[5] = f32::NAN;
            }
            values
        });
        let (images, size) = ([image(0, (6, 7))], (6, 7));
        let expected = expected(&g, &weights, &images, size, 0);
        let way = Way { format: Format::Bf16, ..HALF };
        let found = Job::new(&g, &weights, &images, size, way).heads(&program, &[]).unwrap();
        for (expected, found) in expected[0].iter().zip(&found[0]) {
            let lost = |values: &[f32]| values.iter().skip(5).step_by(24).filter(|v| !v.is_nan()).count();
            assert_eq!((lost(expected), lost(found)), (0, 0), "{activation:?}: {:?}", &found[..24]);
            let is_nan = |values: &[f32]| values.iter().map(|v| v.is_nan()).collect::<Vec<_>>();
            assert_eq!(is_nan(expected), is_nan(found), "{activation:?}");
        }
    }
}

/// A map of `c` channels with a NaN in one channel of one pixel: what is infinite less what is infinite.
fn with_a_nan(g: &mut Graph, x: NodeId, c: usize) -> NodeId {
    let (y, spot) = (widen(g, x, c), g.conv("spot", x, Conv::new(1, 1)));
    let spot = g.relu(spot);
    let (plus, minus) = (g.conv("plus", spot, Conv::new(c, 1)), g.conv("minus", spot, Conv::new(c, 1)));
    g.add(&[y, plus, minus])
}

/// Weights for [`with_a_nan`], and an image of `h × w` whose pixel `(y, x)` it is.
fn nan_at(g: &Graph, (h, w): (usize, usize), (y, x): (usize, usize), channel: usize) -> (Weights, Vec<u8>) {
    let plain = Weights::from_names(g);
    let weights = Weights::from_fn(g, plain.metadata.clone(), |p| {
        let mut values = plain.get(&p.name).unwrap().values.clone();
        match p.name.as_str() {
            // Above zero where red is bright, and zero elsewhere.
            "spot.weight" => values.copy_from_slice(&[1.0, 0.0, 0.0]),
            "spot.bias" => values[0] = -1.0,
            "plus.weight" | "minus.weight" => {
                values.fill(0.0);
                values[channel] = if p.name == "plus.weight" { 3e38 } else { -3e38 };
            }
            "plus.bias" | "minus.bias" => values.fill(0.0),
            _ => {}
        }
        values
    });
    let mut rgb: Vec<u8> = image(0, (h, w)).into_iter().map(|v| v / 2).collect();
    rgb[(y * w + x) * 3] = 255;
    (weights, rgb)
}

/// What a NaN in one channel of one pixel becomes in every step but convolutions, in their wide and narrow kernels.
#[test]
fn a_nan_goes_as_far_as_on_the_processor_in_every_step() {
    type Build = fn(&mut Graph, NodeId) -> NodeId;
    let steps: &[(&'static str, Build)] = &[
        ("largest of windows", |g, z| g.max_pool(z, Pool { kernel: 3, stride: 2, pad: 1 })),
        ("means of windows", |g, z| g.avg_pool(z, Pool { kernel: 2, stride: 2, pad: 0 })),
        ("nearest", |g, z| g.resize(z, 2, ResizeMode::Nearest)),
        ("bilinear", |g, z| g.resize(z, 2, ResizeMode::Bilinear)),
        ("bilinear with corners", |g, z| g.resize(z, 2, ResizeMode::BilinearCorners)),
        ("mean", Graph::global_avg_pool),
        ("largest", Graph::global_max_pool),
        ("mean channel", Graph::channel_mean),
        ("largest channel", Graph::channel_max),
        ("softmax", |g, z| g.activation(z, Activation::Softmax)),
        ("layer norm", |g, z| g.layer_norm("layer", z, 1e-6)),
        ("group norm", |g, z| g.group_norm("group", z, g.channels(z) / 3)),
        ("response norm", |g, z| g.global_response_norm("response", z)),
        ("depthwise", |g, z| g.conv("deep", z, Conv::new(g.channels(z), 3).pad(1).groups(g.channels(z)))),
        ("depthwise and layer norm", |g, z| {
            let y = g.conv("deeper", z, Conv::new(g.channels(z), 3).pad(1).groups(g.channels(z)));
            g.layer_norm("deep norm", y, 1e-6)
        }),
        ("product of all", |g, z| {
            let gate = g.global_max_pool(z);
            g.multiply(z, gate)
        }),
        ("product of one", |g, z| {
            let gate = g.channel_max(z);
            g.multiply(z, gate)
        }),
        ("sum", |g, z| {
            let few = g.max_pool(z, Pool { kernel: 2, stride: 2, pad: 0 });
            let large = g.resize(few, 2, ResizeMode::Nearest);
            g.add(&[large, z])
        }),
        ("attention of its pixel", |g, z| {
            let keys = g.conv("keys", g.input(), Conv::new(2 * g.channels(z), 2).stride(2));
            g.attention(z, keys, 1)
        }),
        ("attention to it", |g, z| {
            let queries = g.conv("queries", g.input(), Conv::new(g.channels(z), 1));
            let keys = g.conv("keys of it", z, Conv::new(2 * g.channels(z), 1));
            g.attention(queries, keys, 1)
        }),
        ("attention in windows", |g, z| {
            let three = g.linear("three", z, 3 * g.channels(z));
            g.window_attention("windows", three, 1, 4, 2)
        }),
        ("space to depth", Graph::space_to_depth),
        ("concatenation", |g, z| g.concat(&[z, z])),
    ];
    let Some(program) = fast(Format::Bf16) else { return };
    let (size, mut seen) = ((8, 12), BTreeSet::new());
    for (c, place) in [(24, (4, 5)), (9, (0, 11))] {
        for (name, step) in steps {
            let mut g = Graph::new("case", 3);
            let x = g.input();
            let z = with_a_nan(&mut g, x, c);
            let y = step(&mut g, z);
            g.output("out", Head::Semantic, y);
            let (weights, rgb) = nan_at(&g, size, place, 5);
            let expected = expected(&g, &weights, std::slice::from_ref(&rgb), size, 0);
            let job = Job::new(&g, &weights, &[rgb], size, Way { format: Format::Bf16, ..HALF });
            let found = job.heads(&program, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
            let is_nan = |heads: &Heads| heads[0][0].iter().map(|v| v.is_nan()).collect::<Vec<_>>();
            let (expected, found) = (is_nan(&expected), is_nan(&found));
            assert!(expected.contains(&true), "{name}, {c} channels: the processor loses it");
            let other: Vec<usize> = (0..found.len()).filter(|i| found[*i] != expected[*i]).collect();
            assert!(other.is_empty(), "{name}, {c} channels: other values are NaN: {other:?}");
            seen.extend(job.kernels());
        }
    }
    // All but convolutions.
    for kernel in
        ["pool", "resize", "slab", "channel", "softmax", "layer_norm", "group", "response", "depthwise", "map"]
    {
        assert!(seen.iter().any(|k| k.starts_with(kernel)), "no {kernel} in {seen:?}");
    }
}

#[test]
fn head_maps_have_a_number_for_a_nan_as_the_processors_have() {
    let Some(program) = fast(Format::Bf16) else { return };
    let (size, c) = ((6, 7), 3);
    let mut g = Graph::new("case", 3);
    let x = g.input();
    let z = with_a_nan(&mut g, x, c);
    let (one, two) = (g.conv("one", z, Conv::new(1, 1)), g.conv("two", z, Conv::new(2, 1)));
    g.output("types", Head::TypeProbability, z);
    g.output("distances", Head::HorizontalVertical, two);
    g.output("semantic", Head::Semantic, one);
    g.output("nuclear", Head::NuclearPixel, two);
    let (weights, rgb) = nan_at(&g, size, (2, 3), 1);
    let plans = head_plans(&g, 1);
    let forms: Vec<HeadForm> = plans.iter().map(HeadForm::from).collect();
    let job = Job::new(&g, &weights, &[rgb], size, Way { format: Format::Bf16, heads: &forms, ..HALF });
    let regions = run(&program, &job.regions, &job.launches.launches, &[]).unwrap();
    let values = &job.heads_of(&regions)[0];
    for (plan, offset) in plans.iter().zip(&job.launches.map_offsets) {
        let l = job.launches.heads[plan.output].layout;
        let data = &values[plan.output][..];
        assert!(data.iter().any(|v| v.is_nan()) && data.iter().any(|v| v.is_finite()), "{:?}", plan.spec);
        let mut map = plan.blank(l.w, l.h);
        let channels = l.c;
        let values = HeadValues { data, channels, h: l.h, w: l.w, pixel_stride: channels, channel_stride: 1 };
        plan.fill(&mut map, 0, &values);
        let bytes = &regions[4][*offset..][..2 * map.data.len()];
        let found: Vec<i16> = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        let off = found.iter().zip(&map.data).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).max();
        assert!(off <= Some(1), "{:?}: {off:?}", plan.spec);
    }
}

/// Registers of each kernel: what its block needs for the blocks of a multiprocessor that it is made for.
const MOST_REGISTERS: &[(&str, u32)] = &[
    ("conv_128x128_g8", 128),
    ("conv_wgmma_128x128", 128),
    ("conv_wgmma_128x256", 255),
    ("conv_128x64_g", 232),
    ("conv_128x16_g1", 192),
    ("conv_", 128),
    ("depthwise_", 96),
    ("window_attention_d64", 232),
    ("attention_d64", 168),
    ("window_attention_d32", 128),
    ("attention_d32", 128),
    ("", 64),
];

/// Bytes that a kernel may put aside; outside its inner loop.
const MOST_SPILLED: &[(&str, u32)] = &[("conv_128x128_g8", 64), ("conv_wgmma_128x128", 8)];

#[test]
fn every_kernel_compiles_and_keeps_to_its_registers() {
    let Some(bin) = toolkit() else { return };
    let folder = tempfile::tempdir().unwrap();
    let source = format!("{}/kernels/all.cu", env!("CARGO_MANIFEST_DIR"));
    let jobs = [("compute_80", "sm_80", ""), ("compute_90a", "sm_90a", ""), ("compute_80", "sm_80", "-DWSI_BF16=1")];
    std::thread::scope(|threads| {
        for (virtual_arch, arch, define) in jobs {
            let (bin, folder, source) = (&bin, &folder, &source);
            threads.spawn(move || {
                let to = folder.path().join(format!("{arch}{define}.cubin"));
                let mut nvcc = std::process::Command::new(bin.join("nvcc"));
                nvcc.args(["-std=c++17", "-cubin", "-Xptxas", "-v"]);
                nvcc.arg(format!("-gencode=arch={virtual_arch},code={arch}"));
                nvcc.args((!define.is_empty()).then_some(define));
                let done = nvcc.arg("-o").arg(&to).arg(source).output().unwrap();
                let said = String::from_utf8_lossy(&done.stderr);
                assert!(done.status.success(), "{arch}: {said}");
                check_registers(arch, &said);
            });
        }
    });
}

fn check_registers(arch: &str, said: &str) {
    let number_before = |line: &str, what: &str| -> u32 {
        let before = line.split(what).next().unwrap().trim();
        before.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (mut kernel, mut checked) = (String::new(), 0);
    for line in said.lines() {
        let limit =
            |table: &[(&str, u32)]| table.iter().find(|(name, _)| kernel.starts_with(name)).map_or(0, |(_, n)| *n);
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            kernel = rest.split('\'').next().unwrap().to_owned();
        } else if line.contains("bytes spill stores") {
            let spilled = number_before(line, "bytes spill stores");
            assert!(spilled <= limit(MOST_SPILLED), "{arch}, {kernel}: {spilled} bytes spilled");
        } else if line.contains("Used ") {
            let registers = number_before(line, "registers");
            assert!(registers <= limit(MOST_REGISTERS), "{arch}, {kernel}: {registers} registers");
            checked += 1;
        }
    }
    let expected = if arch == "sm_90a" { 41 } else { 39 };
    assert!(checked >= expected, "{arch}: {checked} kernels of {said}");
    // Products of warpgroups that wait for each other are slow.
    assert!(!said.contains("wgmma.mma_async instructions are serialized"), "{arch}: {said}");
}

/// Stain normalisations of slides, fitted by every method.
fn stains() -> Vec<(&'static str, StainTransform)> {
    use settings::{Stain, StainReference::Standard};
    // Tissue of two stains, in many strengths.
    let tissue: Vec<u8> = (0..6000_u32)
        .flat_map(|i| {
            let part = |n: u32| f64::from((2 * i + n).wrapping_mul(2_654_435_761) >> 16 & 0xff) / 255.0;
            let (h, e) = (part(0), part(1));
            [[0.65, 0.07], [0.70, 0.99], [0.29, 0.11]].map(|[of_h, of_e]| (240.0 * (-h * of_h - e * of_e).exp()) as u8)
        })
        .collect();
    [Stain::Macenko(Standard), Stain::Vahadane(Standard), Stain::Ruifrok(Standard), Stain::Reinhard(Standard)]
        .map(|method| {
            let fit = stain::fit(&tissue, &method).unwrap();
            assert_ne!(fit.transform, StainTransform::Identity, "{}: {:?}", fit.method, fit.flag);
            (fit.method, fit.transform)
        })
        .into()
}

/// All colours an image can have are many: these are `h × w` of them, the greys and the corners of the cube among them.
fn colours((h, w): (usize, usize)) -> Vec<u8> {
    let corner = |i: usize| [i & 1, i >> 1 & 1, i >> 2 & 1].map(|bit| 255 * bit as u8);
    let greys = (0..=255_u8).map(|v| [v; 3]);
    let others = image(5, (h, w));
    let others = others.chunks_exact(3).map(|px| [px[0], px[1], px[2]]);
    (0..8).map(corner).chain(greys).chain(others).take(h * w).flatten().collect()
}

#[test]
fn stain_normalisation_on_the_way_gives_the_processors_bytes() {
    let Some(program) = fast(Format::Half) else { return };
    let size = (64, 72);
    let mut g = Graph::new("case", 3);
    let x = g.input();
    let x = g.activation(x, Activation::Relu6);
    g.output("out", Head::Semantic, x);
    let weights = Weights::from_names(&g);
    let network = CudaNetwork::new(&g, &weights, Format::Half).unwrap();
    let plan = network.plan(size.0, size.1).unwrap();
    // So that what comes out is the byte over 64, exact in half precision.
    let normalisation = Normalisation { mean: [0.0; 3], std: [64.0 / 255.0; 3] };
    let stains = stains();
    let tables: Vec<StainTables> = stains.iter().map(|(_, transform)| StainTables::of(transform).unwrap()).collect();
    // The first image stays as it is; each of the others is of a slide of its own.
    let pixels = vec![colours(size); 1 + stains.len()];
    for is_kept in [false, true] {
        let pass = StainPass { tables: 6, is_kept };
        let batch = Batch {
            images: pixels.len(),
            kind: 0,
            normalisation: &normalisation,
            stain: Some(pass),
            heads: &[],
            // Images go through one by one.
            wgmma: false,
            chip: is_kept.then_some(Chip { cache_bytes: 100_000, multiprocessors: 1 }),
        };
        let mut store = network.store();
        let launches = network.launches(&plan, &batch, &mut store);
        assert_eq!(launches.launches.len() > plan.steps.len(), is_kept, "one by one");
        let mut regions: Vec<Vec<u8>> = launches.region_bytes.iter().map(|bytes| vec![0xff; *bytes]).collect();
        (regions[0], regions[2]) = (store.bytes().to_vec(), pixels.concat());
        let numbers = pass.numbers_at();
        regions[5][numbers..numbers + 4].fill(0);
        for (i, tables) in tables.iter().enumerate() {
            // Not in the order of the images.
            let place = (i + 3) % 6;
            regions[5][place * StainTables::MOST_BYTES..][..tables.bytes().len()].copy_from_slice(tables.bytes());
            let number = StainPass::number(place, tables.method()).to_le_bytes();
            regions[5][numbers + 4 * (i + 1)..][..4].copy_from_slice(&number);
        }
        let job = Job { launches, regions, format: Format::Half };
        let regions = run(&program, &job.regions, &job.launches.launches, &[]).unwrap();
        for (i, found) in job.heads_of(&regions).iter().enumerate() {
            let (name, expected) = match i {
                0 => ("none", pixels[0].clone()),
                i => {
                    let mut rgb = pixels[i].clone();
                    stains[i - 1].1.apply(&mut rgb);
                    assert_ne!(rgb, pixels[i]);
                    (stains[i - 1].0, rgb)
                }
            };
            let bytes: Vec<u8> = found[0].iter().map(|v| (v * 64.0) as u8).collect();
            assert!(bytes == expected, "{name}: what the network sees");
            let kept = &regions[2][i * expected.len()..][..expected.len()];
            let after = if is_kept { &expected } else { &pixels[i] };
            assert!(kept == &after[..], "{name}: what is given back");
        }
    }
}

/// How far a network's worst value in half precision may be from single precision's, of the largest value.
const TOLERANCE: f32 = 1e-2;

/// Images of this side and more take minutes in the emulation: `WSI_RUN_SLOW=1` runs them, too.
const SLOW_PX: usize = 150;

fn check(name: &str, px: usize) {
    if px >= SLOW_PX && std::env::var_os("WSI_RUN_SLOW").is_none() {
        return println!("skipped: minutes in the emulation; `WSI_RUN_SLOW=1` runs it");
    }
    let Some(program) = fast(Format::Half) else { return };
    let graph = graph(name);
    let weights = Weights::from_names(&graph);
    let kind = if name == "clin_seg_net" { 7 } else { 0 };
    // Of large images one: the emulation is slow.
    let images = [image(0, (px, px)), image(1, (px, px))];
    let images = if px < 100 { &images[..] } else { &images[..1] };
    let expected = expected(&graph, &weights, images, (px, px), kind);
    let job = Job::new(&graph, &weights, images, (px, px), Way { kind, ..HALF });
    let found = job.heads(&program, &[]).unwrap();
    let off = farthest(&found, &expected);
    println!("{name}: {off:.1e}, {} launches", job.launches.launches.len());
    assert!(off < TOLERANCE, "{name}: {off}");
}

every_network! {
    /// Every network's list of launches gives what the processor's kernels give.
    mod on_the_kernels_it_is_as_on_the_processor
}

#[test]
fn where_there_is_no_gpu_it_is_said_why() {
    let graph = graph("stardist_unet");
    let weights = Weights::from_names(&graph);
    let options = ExecuteOptions { precision: settings::Precision::Usual, kind: 0 };
    let why = CudaExecute::new(&graph, &weights, &options, &[]).err().map(|e| e.to_string());
    if !cfg!(feature = "cuda") {
        assert_eq!(why.unwrap(), "CUDA is not available: this program was built without the `cuda` feature");
    } else if let Err(e) = devices::count() {
        assert_eq!(why.unwrap(), e.to_string());
    }
}

/// The same jobs on a GPU.
#[cfg(feature = "cuda")]
mod on_a_gpu {
    use super::*;
    use std::sync::Arc;
    use wsi_run::infer::cuda::{Region, buffer::Buffer, driver::Device, stream::Stream};

    fn device(format: Format) -> Option<Arc<Device>> {
        match devices::count() {
            Ok(_) => Some(Arc::new(Device::open(0, format).unwrap())),
            Err(why) => {
                println!("skipped: {why}");
                None
            }
        }
    }

    fn heads(device: &Arc<Device>, job: &Job) -> Heads {
        let buffers: Vec<Buffer> = job.regions.iter().map(|bytes| Buffer::of(device, bytes).unwrap()).collect();
        let stream = Stream::new(device).unwrap();
        let base = |region: Region| buffers[Region::ALL.iter().position(|r| *r == region).unwrap()].address();
        for launch in &job.launches.launches {
            // SAFETY: buffers are as large as the launches were made for, and live until the stream was waited for.
            unsafe { stream.launch(launch, &base) }.unwrap();
        }
        stream.wait().unwrap();
        let regions: Vec<Vec<u8>> = buffers.iter().map(|buffer| buffer.read().unwrap()).collect();
        job.heads_of(&regions)
    }

    fn every_kernel(format: Format, tolerance: f32) {
        let Some(device) = device(format) else { return };
        for case in CASES {
            let graph = case.graph();
            let weights = Weights::from_names(&graph);
            let images = [image(0, case.size), image(1, case.size), image(2, case.size)];
            let job = Job::new(&graph, &weights, &images, case.size, Way { format, ..HALF });
            let off = farthest(&heads(&device, &job), &expected(&graph, &weights, &images, case.size, 0));
            println!("{off:.1e} {format:?} {}", case.name);
            assert!(off < tolerance, "{}, {format:?}: {off}", case.name);
        }
    }

    #[test]
    fn every_kernel_gives_in_half_precision_what_the_processors_gives() {
        every_kernel(Format::Half, 4e-3);
    }

    #[test]
    fn every_kernel_gives_in_bfloat16_what_the_processors_gives() {
        every_kernel(Format::Bf16, 3e-2);
    }

    /// The kernels of warpgroups and large blocks, of which the small cases have none.
    #[test]
    fn every_kernel_of_large_products_gives_what_the_processors_gives() {
        let Some(device) = device(Format::Half) else { return };
        let (g, size) = (wide_graph(), (131, 133));
        let weights = Weights::from_names(&g);
        let images = [image(0, size)];
        let expected = expected(&g, &weights, &images, size, 0);
        for wgmma in [false, true].into_iter().filter(|wgmma| !wgmma || device.has_wgmma()) {
            let job = Job::new(&g, &weights, &images, size, Way { wgmma, ..HALF });
            let off = farthest(&heads(&device, &job), &expected);
            println!("{off:.1e}, by warpgroups: {wgmma}");
            assert!(off < 4e-3, "by warpgroups: {wgmma}: {off}");
        }
    }

    #[test]
    fn every_network_gives_what_the_processor_gives() {
        let Some(device) = device(Format::Half) else { return };
        for entry in zoo() {
            let px = entry.input_px;
            let graph = (entry.build)();
            let weights = Weights::from_names(&graph);
            let images = [image(0, (px, px)), image(1, (px, px))];
            let job = Job::new(&graph, &weights, &images, (px, px), HALF);
            let off = farthest(&heads(&device, &job), &expected(&graph, &weights, &images, (px, px), 0));
            println!("{off:.1e} {} {px} px", entry.name);
            assert!(off < TOLERANCE, "{}: {off}", entry.name);
        }
    }
}
