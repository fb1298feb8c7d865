//! How long a training step takes.
//!
//! Owns: [`time_steps`], [`StepTimes`]. Must not know: how a step is run, what is printed.

use super::{Mode, Network};
use crate::{
    kernels::adam,
    model::{graph::Graph, spec::ModelError, weights::Weights},
};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Tensor, bail};
use std::{collections::HashMap, sync::Mutex, time::Instant};

/// Steps that are run at least, the first two not counted.
const LEAST_STEPS: usize = 5;
const LEARNING_RATE: f64 = 1e-4;
/// Projections of each gradient.
const PROJECTIONS: usize = 3;

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTimes {
    /// Seconds of each step, shortest first.
    pub secs: Vec<f64>,
    /// Seconds of forward, loss, backward and optimiser, means of all steps.
    pub parts_secs: [f64; 4],
    /// Most bytes of maps in use at once.
    pub map_bytes: usize,
    /// Loss of the first step.
    pub loss: f64,
    /// Of each parameter's first gradient: name, norm and projections, for comparison with other programs.
    pub gradients: Vec<(String, f64, [f64; PROJECTIONS])>,
}

/// Times steps of training: forward with the batch's statistics and no dropout, the mean of (head − ½)² summed over the
/// heads, backward, Adam.
///
/// # Shapes
/// - `images`: `[N, C, h, w]` of `shape`
///
/// # Errors
/// [`ModelError`]: images that do not fit the network.
pub fn time_steps(
    graph: &Graph,
    weights: &Weights,
    images: Vec<f32>,
    shape: [usize; 4],
    secs: f64,
) -> std::result::Result<StepTimes, ModelError> {
    run(graph, weights, images, shape, secs).map_err(|e| ModelError(e.to_string()))
}

fn run(graph: &Graph, weights: &Weights, images: Vec<f32>, [n, c, h, w]: [usize; 4], secs: f64) -> Result<StepTimes> {
    let network = Network::new(graph.clone(), weights, DType::F32, &Device::Cpu)?;
    let images = Tensor::from_vec(images, (n, c, h, w), &Device::Cpu)?;
    let mut moments: HashMap<String, [Vec<f32>; 2]> = HashMap::new();
    let mut times = StepTimes { secs: vec![], parts_secs: [0.0; 4], map_bytes: 0, loss: 0.0, gradients: vec![] };
    let mode = Mode { dropout_seed: None, ..Mode::train(0) };
    let start = Instant::now();
    for step in 1.. {
        let mut marks = vec![Instant::now()];
        let heads = network.forward(&images, mode)?;
        marks.push(Instant::now());
        let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        for head in &heads {
            loss = (loss + (head - 0.5)?.sqr()?.mean_all()?)?;
        }
        marks.push(Instant::now());
        let gradients = Network::backward(&loss)?;
        marks.push(Instant::now());
        for (name, var) in network.weights() {
            let Some(gradient) = gradients.get(&var) else { continue };
            let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
            if step == 1 {
                times.gradients.push(told(name.clone(), &gradient));
            }
            let [first, second] = moments.entry(name).or_insert_with(|| [(); 2].map(|()| vec![0.0; gradient.len()]));
            var.inplace_op1(&Adam { gradient: &gradient, moments: Mutex::new([first, second]), step })?;
        }
        if step == 1 {
            times.loss = f64::from(loss.to_scalar::<f32>()?);
        }
        drop((gradients, loss, heads));
        marks.push(Instant::now());
        if step <= 2 {
            continue;
        }
        times.secs.push((marks[4] - marks[0]).as_secs_f64());
        for (part, marks) in times.parts_secs.iter_mut().zip(marks.windows(2)) {
            *part += (marks[1] - marks[0]).as_secs_f64();
        }
        if times.secs.len() >= LEAST_STEPS && start.elapsed().as_secs_f64() >= secs {
            break;
        }
    }
    times.parts_secs = times.parts_secs.map(|part| part / times.secs.len() as f64);
    times.secs.sort_by(f64::total_cmp);
    times.map_bytes = network.peak_bytes();
    Ok(times)
}

fn told(name: String, gradient: &[f32]) -> (String, f64, [f64; PROJECTIONS]) {
    let wide = || gradient.iter().map(|g| f64::from(*g));
    let norm = wide().map(|g| g * g).sum::<f64>().sqrt();
    let mut dots = [0.0; PROJECTIONS];
    for (k, dot) in dots.iter_mut().enumerate() {
        let factor = |i: usize| ((i * 31 + 7 + k * 13) % (101 + k)) as f64 / 50.0 - 1.0;
        *dot = wide().enumerate().map(|(i, g)| g * factor(i)).sum();
    }
    (name, norm, dots)
}

/// [`adam`] on candle's memory.
struct Adam<'a> {
    gradient: &'a [f32],
    moments: Mutex<[&'a mut Vec<f32>; 2]>,
    step: u32,
}

impl InplaceOp1 for Adam<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(&self, values: &mut CpuStorage, _: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Ok(mut moments)) = (values, self.moments.lock()) else {
            bail!("adam runs on f32 only")
        };
        let [first, second] = &mut *moments;
        adam(values, self.gradient, [first, second], self.step, LEARNING_RATE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Head, graph::Conv};

    #[test]
    fn steps_are_timed_and_their_gradients_told() {
        let mut g = Graph::new("toy", 3);
        let x = g.conv("head", g.input(), Conv::new(2, 3).pad(1));
        g.output("mask", Head::Semantic, x);
        let weights = Weights::from_names(&g);
        let times = time_steps(&g, &weights, vec![0.25; 2 * 3 * 64], [2, 3, 8, 8], 0.0).unwrap();
        assert!(times.secs.len() >= LEAST_STEPS && times.secs.is_sorted());
        let names: Vec<&str> = times.gradients.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["head.weight", "head.bias"]);
        assert!(times.gradients.iter().all(|(_, norm, _)| *norm > 0.0));
        assert!(time_steps(&g, &weights, vec![0.0; 64], [1, 1, 8, 8], 0.0).is_err());
    }
}
