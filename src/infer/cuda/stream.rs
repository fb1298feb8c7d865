//! Work of a GPU: launches and copies, in order.
//!
//! Owns: [`Stream`], [`Recording`]. Must not know: networks, plans.

use super::{
    buffer::{Buffer, Pinned},
    driver::{Device, DeviceError},
    launch::{Launch, Region},
};
use cudarc::driver::{result, sys};
use std::{ffi::c_void, sync::Arc};

/// Work of a GPU that is done in order.
pub struct Stream {
    device: Arc<Device>,
    stream: sys::CUstream,
}

// SAFETY: as of `Device`.
unsafe impl Send for Stream {}

/// Launches and copies that were recorded.
pub struct Recording {
    device: Arc<Device>,
    executable: sys::CUgraphExec,
}

// SAFETY: as of `Device`.
unsafe impl Send for Recording {}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.device.make_current();
        // SAFETY: instantiated here, and nobody else has it. An error on the way out helps nobody.
        let _ = unsafe { result::graph::exec_destroy(self.executable) };
    }
}

impl Stream {
    /// A stream that waits for no other.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn new(device: &Arc<Device>) -> Result<Self, DeviceError> {
        device.make_current()?;
        let made = result::stream::create(result::stream::StreamKind::NonBlocking);
        Ok(Self { device: device.clone(), stream: made.map_err(device.failed("make a stream"))? })
    }

    /// Makes the device's context this thread's.
    ///
    /// # Errors
    /// When the driver refuses.
    pub fn enter(&self) -> Result<(), DeviceError> {
        self.device.make_current()
    }

    /// Starts a kernel.
    ///
    /// # Safety
    /// The regions are as large as the launches were made for, and stay so until the stream was waited for.
    ///
    /// # Errors
    /// When the driver refuses, or something before failed.
    pub unsafe fn launch(&self, launch: &Launch, bases: &dyn Fn(Region) -> u64) -> Result<(), DeviceError> {
        let function = self.device.function(launch)?;
        let mut argument = launch.bound(bases);
        let [x, y, z] = launch.grid;
        let parameters = &mut [argument.as_mut_ptr().cast::<c_void>()];
        // SAFETY: the argument is the kernel's struct, which the driver copies; the rest is the caller's promise.
        unsafe {
            result::launch_kernel(
                function,
                (x, y, z),
                (launch.threads, 1, 1),
                launch.shared_bytes,
                self.stream,
                parameters,
            )
        }
        .map_err(self.device.failed(launch.kernel))
    }

    /// Starts a copy of `bytes` bytes from `from` on to `to` on.
    ///
    /// # Safety
    /// Both stay, and `from` is not written, until the stream was waited for.
    ///
    /// # Errors
    /// When the driver refuses, or something before failed.
    pub unsafe fn upload(
        &self,
        (from, first): (&Pinned, usize),
        (to, at): (&Buffer, usize),
        bytes: usize,
    ) -> Result<(), DeviceError> {
        assert!(first + bytes <= from.bytes && at + bytes <= to.bytes, "{bytes} bytes from {first} to {at}");
        // SAFETY: inside both; the rest is the caller's promise.
        unsafe { result::memcpy_htod_async(to.address + at as u64, &from.bytes()[first..][..bytes], self.stream) }
            .map_err(self.device.failed("take images"))
    }

    /// Starts a copy of `bytes` bytes from `from` on to `to` on.
    ///
    /// # Safety
    /// Both stay, and `to` is not used, until the stream was waited for.
    ///
    /// # Errors
    /// When the driver refuses, or something before failed.
    pub unsafe fn download(
        &self,
        (from, first): (&Buffer, usize),
        (to, at): (&Pinned, usize),
        bytes: usize,
    ) -> Result<(), DeviceError> {
        assert!(first + bytes <= from.bytes && at + bytes <= to.bytes, "{bytes} bytes from {first} to {at}");
        // SAFETY: inside both; the rest is the caller's promise.
        unsafe {
            let to = std::slice::from_raw_parts_mut(to.first.add(at), bytes);
            result::memcpy_dtoh_async(to, from.address + first as u64, self.stream)
        }
        .map_err(self.device.failed("give results"))
    }

    /// Starts making a buffer zeros.
    ///
    /// # Safety
    /// It stays, and nobody else uses it, until the stream was waited for.
    ///
    /// # Errors
    /// When the driver refuses, or something before failed.
    pub unsafe fn clear(&self, buffer: &Buffer) -> Result<(), DeviceError> {
        // SAFETY: inside the buffer; the rest is the caller's promise.
        unsafe { result::memset_d8_async(buffer.address, 0, buffer.bytes, self.stream) }
            .map_err(self.device.failed("clear memory"))
    }

    /// Waits for all that was started.
    ///
    /// # Errors
    /// What failed of it.
    pub fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: the stream is this value's.
        unsafe { result::stream::synchronize(self.stream) }.map_err(self.device.failed("finish a batch"))
    }

    /// Records what `f` starts instead of starting it; nothing where the GPU has no memory for the recording, which is
    /// no reason to stop.
    ///
    /// # Errors
    /// What `f` says; when the driver refuses.
    pub fn record(&self, f: impl FnOnce() -> Result<(), DeviceError>) -> Result<Option<Recording>, DeviceError> {
        use sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let failed = self.device.failed("record a batch");
        // SAFETY: the stream is this value's; the capture is ended whatever `f` says.
        unsafe {
            result::stream::begin_capture(self.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(&failed)?;
            let done = f();
            let graph = result::stream::end_capture(self.stream).map_err(&failed);
            done?;
            let graph = graph?;
            let mut executable = std::ptr::null_mut();
            let made = sys::cuGraphInstantiateWithFlags(&raw mut executable, graph, 0).result();
            let _ = result::graph::destroy(graph);
            match made {
                Err(e) if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Ok(None),
                Err(e) => Err(failed(e)),
                Ok(()) => Ok(Some(Recording { device: self.device.clone(), executable })),
            }
        }
    }

    /// Starts what was recorded.
    ///
    /// # Safety
    /// As of all that was recorded.
    ///
    /// # Errors
    /// When the driver refuses, or something before failed.
    pub unsafe fn replay(&self, recording: &Recording) -> Result<(), DeviceError> {
        // SAFETY: both live; the rest is the caller's promise.
        unsafe { result::graph::launch(recording.executable, self.stream) }.map_err(self.device.failed("run a batch"))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.device.make_current();
        // SAFETY: made here, and nobody else has it. An error on the way out helps nobody.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            let _ = result::stream::destroy(self.stream);
        }
    }
}
