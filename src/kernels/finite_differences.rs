//! The judge of every gradient: central finite differences in f64.

use candle_core::{DType, Device, Result, Tensor, Var};

/// Checks the gradient of `f` for inputs of these shapes, each entry by `(f(x + e) − f(x − e)) / 2e`.
pub(crate) fn check(shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let dev = Device::Cpu;
    let vars: Vec<Var> = shapes
        .iter()
        .enumerate()
        .map(|(i, s)| {
            // A fixed irregular sequence: no ties, nothing within 1e-3 of 0, the same on every run.
            let values: Vec<f64> = (0..s.iter().product::<usize>())
                .map(|j| ((j * 7919 + i * 104_729 + 13) % 1009) as f64 / 504.5 - 1.0 + 1e-3)
                .collect();
            Var::from_tensor(&Tensor::from_vec(values, *s, &dev).unwrap()).unwrap()
        })
        .collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tensors).unwrap();
    let count = y.elem_count();
    let weights: Vec<f64> = (0..count).map(|j| ((j * 31 + 7) % 101) as f64 / 50.0 - 1.0).collect();
    let weights = Tensor::from_vec(weights, y.shape(), &dev).unwrap();
    let loss = |t: &[Tensor]| (f(t).unwrap() * &weights).unwrap().sum_all().unwrap();
    let grads = loss(&tensors).backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        let grad = grads.get(var.as_tensor()).unwrap_or_else(|| panic!("input {i} has no gradient"));
        assert_eq!(grad.dtype(), DType::F64);
        let grad = grad.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let base = tensors[i].flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for j in 0..base.len() {
            let at = |e: f64| {
                let mut moved = base.clone();
                moved[j] += e;
                let mut inputs = tensors.clone();
                inputs[i] = Tensor::from_vec(moved, tensors[i].shape(), &dev).unwrap();
                loss(&inputs).to_scalar::<f64>().unwrap()
            };
            let e = 1e-5;
            let expected = (at(e) - at(-e)) / (2.0 * e);
            let error = (grad[j] - expected).abs() / (1.0 + expected.abs());
            assert!(error < 1e-6, "input {i}, entry {j}: gradient {}, expected {expected}", grad[j]);
        }
    }
}
