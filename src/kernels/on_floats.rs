//! From candle's storage to slices of `f32` or `f64`.
//!
//! Owns: [`OnFloats`], [`unary`], [`binary`]. Must not know: any operation.

use candle_core::{CpuStorage, Layout, Result, WithDType, bail};

/// A computation written once for both float types.
pub(super) trait OnFloats {
    /// Inputs are contiguous.
    fn run<T: WithDType>(&self, inputs: &[&[T]]) -> Vec<T>;
}

/// Runs `op` on one tensor.
pub(super) fn unary(name: &str, x: (&CpuStorage, &Layout), op: &impl OnFloats) -> Result<CpuStorage> {
    match x.0 {
        CpuStorage::F32(_) => Ok(f32::to_cpu_storage_owned(op.run(&[slice::<f32>(name, x)?]))),
        CpuStorage::F64(_) => Ok(f64::to_cpu_storage_owned(op.run(&[slice::<f64>(name, x)?]))),
        _ => bail!("{name} runs on f32 and f64 only"),
    }
}

/// Runs `op` on two tensors of one type.
pub(super) fn binary(
    name: &str,
    x: (&CpuStorage, &Layout),
    y: (&CpuStorage, &Layout),
    op: &impl OnFloats,
) -> Result<CpuStorage> {
    match x.0 {
        CpuStorage::F32(_) => Ok(f32::to_cpu_storage_owned(op.run(&[slice::<f32>(name, x)?, slice::<f32>(name, y)?]))),
        CpuStorage::F64(_) => Ok(f64::to_cpu_storage_owned(op.run(&[slice::<f64>(name, x)?, slice::<f64>(name, y)?]))),
        _ => bail!("{name} runs on f32 and f64 only"),
    }
}

fn slice<'a, T: WithDType>(name: &str, (storage, layout): (&'a CpuStorage, &Layout)) -> Result<&'a [T]> {
    let data = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("{name} needs a contiguous tensor"),
    }
}
