//! The tape as operations of candle's, so that a loss of candle's leads back through it.
//!
//! Owns: [`hook`], [`backward`]. Must not know: what a tape does.
//!
//! Candle's own operations have at most three arguments, a network has hundreds. So a token (one number, 0) is led past
//! every parameter, then past the images, then to the heads. Backwards, the heads leave their gradients in the tape's
//! inbox, the images' operation runs the whole tape, and each parameter finds its gradient in the inbox.

use super::tape::Tape;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor, Var, backprop::GradStore, bail,
};
use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What the operations of one pass share.
#[derive(Debug)]
struct Inbox {
    /// Gone once it was run back.
    tape: Mutex<Option<Tape>>,
    heads: Mutex<Vec<Option<Tensor>>>,
    weights: Mutex<HashMap<String, Vec<f32>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is whole whoever panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Heads whose gradients lead to the parameters and the images.
///
/// # Errors
/// Candle's.
pub(super) fn hook(
    heads: Vec<Tensor>,
    tape: Tape,
    images: &Tensor,
    parameters: Vec<(String, Var)>,
) -> Result<Vec<Tensor>> {
    let inbox = Arc::new(Inbox {
        tape: Mutex::new(Some(tape)),
        heads: Mutex::new(vec![None; heads.len()]),
        weights: Mutex::new(HashMap::new()),
    });
    let mut token = token()?;
    for (name, var) in parameters {
        token = token.apply_op2(var.as_tensor(), Parameter { name, inbox: inbox.clone() })?;
    }
    let token = token.apply_op2(images, Pass(inbox.clone()))?;
    let head = |(index, head): (usize, Tensor)| token.apply_op1(Head { index, head, inbox: inbox.clone() });
    heads.into_iter().enumerate().map(head).collect()
}

thread_local! {
    /// Parameters and their gradients, where [`backward`] asked for them.
    static COLLECTED: RefCell<Option<Vec<(Tensor, Tensor)>>> = const { RefCell::new(None) };
}

/// `loss.backward()`, but parameters' gradients go by candle's sums, which add each to zeros first.
///
/// # Errors
/// Candle's.
pub(super) fn backward(loss: &Tensor) -> Result<GradStore> {
    COLLECTED.set(Some(vec![]));
    let gradients = loss.backward();
    let collected = COLLECTED.take().unwrap_or_default();
    let mut gradients = gradients?;
    for (parameter, gradient) in collected {
        let sum = match gradients.remove(&parameter) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        gradients.insert(&parameter, sum);
    }
    Ok(gradients)
}

fn token() -> Result<Tensor> {
    Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)
}

fn zero() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), Shape::from(1))
}

/// A parameter of the network.
struct Parameter {
    name: String,
    inbox: Arc<Inbox>,
}

impl CustomOp2 for Parameter {
    fn name(&self) -> &'static str {
        "network_parameter"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(zero())
    }

    fn bwd(&self, _: &Tensor, parameter: &Tensor, _: &Tensor, _: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = lock(&self.inbox.weights).remove(&self.name);
        let gradient = gradient.map(|g| Tensor::from_vec(g, parameter.shape(), &Device::Cpu)).transpose()?;
        let is_collected = COLLECTED.with_borrow_mut(|collected| match (collected, &gradient) {
            (Some(all), Some(gradient)) => {
                all.push((parameter.clone(), gradient.clone()));
                true
            }
            _ => false,
        });
        Ok((Some(token()?), gradient.filter(|_| !is_collected)))
    }
}

/// The whole network.
struct Pass(Arc<Inbox>);

impl CustomOp2 for Pass {
    fn name(&self) -> &'static str {
        "network"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(zero())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(tape) = lock(&self.0.tape).take() else {
            bail!("network: a second backward pass, expected one for each forward pass")
        };
        let heads = std::mem::take(&mut *lock(&self.0.heads));
        let gradients = tape.backward(heads)?;
        *lock(&self.0.weights) = gradients.weights;
        Ok((Some(token()?), gradients.images))
    }
}

/// One head: its value is there already.
struct Head {
    index: usize,
    head: Tensor,
    inbox: Arc<Inbox>,
}

impl CustomOp1 for Head {
    fn name(&self) -> &'static str {
        "network_head"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let (storage, layout) = self.head.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else { bail!("network: a head of another device") };
        Ok((storage.clone(), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        if let Some(at) = lock(&self.inbox.heads).get_mut(self.index) {
            *at = Some(gradient.detach());
        }
        Ok(Some(token()?))
    }
}
