//! Memory of a GPU, and memory of the machine that it copies from and to.
//!
//! Owns: [`Buffer`], [`Pinned`]. Must not know: what is in them.

use super::driver::{Device, DeviceError};
use cudarc::driver::{result, sys};
use std::{ffi::c_void, sync::Arc};

/// Memory of a GPU.
pub struct Buffer {
    device: Arc<Device>,
    pub(super) address: sys::CUdeviceptr,
    pub(super) bytes: usize,
}

impl Buffer {
    /// Memory with anything in it.
    ///
    /// # Errors
    /// [`DeviceError::Memory`] when there is not so much left.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<Self, DeviceError> {
        device.make_current()?;
        let bytes = bytes.max(1);
        // SAFETY: freed when dropped.
        let address = device.allocated(bytes, unsafe { result::malloc_sync(bytes) })?;
        Ok(Self { device: device.clone(), address, bytes })
    }

    /// Memory that holds `data`.
    ///
    /// # Errors
    /// As [`Buffer::new`]; a copy that fails.
    pub fn of(device: &Arc<Device>, data: &[u8]) -> Result<Self, DeviceError> {
        let buffer = Self::new(device, data.len())?;
        // SAFETY: the buffer is as long as the data; the call returns when the copy is done.
        unsafe { result::memcpy_htod_sync(buffer.address, data) }.map_err(device.failed("take data"))?;
        Ok(buffer)
    }

    /// What it holds.
    ///
    /// # Errors
    /// A copy that fails, or a kernel before it that did.
    pub fn read(&self) -> Result<Vec<u8>, DeviceError> {
        self.device.make_current()?;
        let mut data = vec![0; self.bytes];
        // SAFETY: the buffer is as long as the data; the call returns when the copy is done.
        unsafe { result::memcpy_dtoh_sync(&mut data, self.address) }.map_err(self.device.failed("give data"))?;
        Ok(data)
    }

    /// Its first byte's address on the device.
    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _ = self.device.make_current();
        // SAFETY: allocated here, and nobody else has it. An error on the way out helps nobody.
        let _ = unsafe { result::free_sync(self.address) };
    }
}

/// Memory of the machine that a GPU copies from and to without the processor.
pub struct Pinned {
    device: Arc<Device>,
    pub(super) first: *mut u8,
    pub(super) bytes: usize,
}

// SAFETY: plain memory that one value owns.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Zeros.
    ///
    /// # Errors
    /// [`DeviceError::Memory`] when the machine has not so much to pin.
    pub fn new(device: &Arc<Device>, bytes: usize) -> Result<Self, DeviceError> {
        device.make_current()?;
        let bytes = bytes.max(1);
        // SAFETY: freed when dropped, written below.
        let first: *mut u8 = device.allocated(bytes, unsafe { result::malloc_host(bytes, 0) })?.cast();
        // SAFETY: `bytes` bytes were just allocated.
        unsafe { first.write_bytes(0, bytes) };
        Ok(Self { device: device.clone(), first, bytes })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: allocated and written; copies to it are waited for by whoever started them.
        unsafe { std::slice::from_raw_parts(self.first, self.bytes) }
    }

    /// The first `count` numbers of 16 bits, as a GPU writes them: the low byte first, as this machine has them.
    pub fn numbers(&self, count: usize) -> &[i16] {
        assert!(2 * count <= self.bytes, "{count} numbers of {} bytes", self.bytes);
        // SAFETY: as in `bytes`; memory that is pinned begins at a page.
        unsafe { std::slice::from_raw_parts(self.first.cast::<i16>(), count) }
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.device.make_current();
        // SAFETY: allocated here, and nobody else has it. An error on the way out helps nobody.
        let _ = unsafe { result::free_host(self.first.cast::<c_void>()) };
    }
}
