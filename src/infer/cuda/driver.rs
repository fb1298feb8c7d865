//! A GPU by its driver.
//!
//! Owns: [`Device`], [`DeviceError`], memory, streams, recorded launches. Must not know: networks, plans.
//!
//! All handles are owned by values that free them; every call makes the device's context the thread's own first.

use super::{
    code, devices,
    launch::{Format, Launch, Region},
};
use cudarc::driver::{
    result::{self, DriverError},
    sys,
};
use std::{
    collections::HashMap,
    ffi::{CString, c_void},
    sync::{Arc, Mutex, PoisonError},
};

/// Shared memory a block may have without asking.
const USUAL_SHARED_BYTES: u32 = 48 << 10;

/// Why a GPU cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is no such GPU, or it cannot be used.
    #[error("{0}")]
    Unavailable(String),
    /// Its memory is full.
    #[error("gpu `{gpu}` has no `{bytes}` bytes of memory left")]
    Memory {
        /// Its number.
        gpu: usize,
        /// What was asked for.
        bytes: usize,
    },
    /// A call failed; nothing later on this device can be trusted.
    #[error("gpu `{gpu}` failed to {what}: {why}")]
    Failed {
        /// Its number.
        gpu: usize,
        /// What it was to do.
        what: &'static str,
        /// What the driver says.
        why: String,
    },
}

/// What the driver calls an error.
pub(super) fn text(e: DriverError) -> String {
    match e.error_string() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => format!("error {}", e.0 as i32),
    }
}

/// A GPU with the kernels loaded.
pub struct Device {
    gpu: usize,
    name: String,
    device: sys::CUdevice,
    context: sys::CUcontext,
    module: sys::CUmodule,
    functions: Mutex<HashMap<&'static str, sys::CUfunction>>,
    cache_bytes: usize,
}

// SAFETY: a context and what belongs to it may be used by any thread that makes it its own, which every call does.
unsafe impl Send for Device {}
// SAFETY: as above; the driver's functions may be called by several threads at once.
unsafe impl Sync for Device {}

impl Device {
    /// Opens a GPU.
    ///
    /// # Errors
    /// [`DeviceError::Unavailable`]: no driver, no such GPU, one that is too old, kernels that it does not take.
    pub fn open(gpu: usize, format: Format) -> Result<Self, DeviceError> {
        let count = devices::count().map_err(|e| DeviceError::Unavailable(e.to_string()))?;
        if gpu >= count {
            let why = format!("there is no gpu `{gpu}`, expected a number below `{count}`");
            return Err(DeviceError::Unavailable(why));
        }
        let failed = |e: DriverError| DeviceError::Unavailable(format!("gpu `{gpu}` cannot be used: {}", text(e)));
        let device = result::device::get(gpu as i32).map_err(failed)?;
        use sys::CUdevice_attribute as Attribute;
        // SAFETY: the device is the driver's own.
        let attribute = |which| unsafe { result::device::get_attribute(device, which) };
        let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR).map_err(failed)?;
        let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR).map_err(failed)?;
        let name = result::device::get_name(device).map_err(failed)?;
        if (major, minor) < code::OLDEST {
            let why = format!("gpu `{gpu}` ({name}) has compute capability `{major}.{minor}`, expected 8.0 or later");
            return Err(DeviceError::Unavailable(why));
        }
        let cache_bytes = attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).map_err(failed)?.max(0) as usize;
        let images = code::images(format, (major, minor)).map_err(DeviceError::Unavailable)?;
        // SAFETY: the device is the driver's own; released when dropped.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed)?;
        let mut opened =
            Self { gpu, name, device, context, module: std::ptr::null_mut(), functions: Mutex::default(), cache_bytes };
        opened.make_current()?;
        let mut refused = String::new();
        for image in &images {
            // SAFETY: images are as the toolkit made them; text ends with 0.
            match unsafe { result::module::load_data(image.as_ptr().cast()) } {
                Ok(module) => {
                    opened.module = module;
                    return Ok(opened);
                }
                Err(e) => refused = text(e),
            }
        }
        Err(DeviceError::Unavailable(format!("gpu `{gpu}` ({}) does not take the kernels: {refused}", opened.name)))
    }

    /// Its number.
    pub fn gpu(&self) -> usize {
        self.gpu
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of its second-level cache.
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    fn failed(&self, what: &'static str) -> impl Fn(DriverError) -> DeviceError + '_ {
        move |e| DeviceError::Failed { gpu: self.gpu, what, why: text(e) }
    }

    fn make_current(&self) -> Result<(), DeviceError> {
        // SAFETY: the context lives as long as the device.
        unsafe { result::ctx::set_current(self.context) }.map_err(self.failed("become this thread's"))
    }

    fn allocated<T>(&self, bytes: usize, done: Result<T, DriverError>) -> Result<T, DeviceError> {
        done.map_err(|e| match e.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::Memory { gpu: self.gpu, bytes },
            _ => self.failed("give memory")(e),
        })
    }

    /// A kernel that may have this much shared memory.
    fn function(&self, launch: &Launch) -> Result<sys::CUfunction, DeviceError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let function = match functions.get(launch.kernel) {
            Some(function) => *function,
            None => {
                let name = CString::new(launch.kernel).expect("names of kernels have no 0");
                // SAFETY: the module is loaded.
                let found = unsafe { result::module::get_function(self.module, name) };
                let function = found.map_err(self.failed("find a kernel"))?;
                functions.insert(launch.kernel, function);
                function
            }
        };
        if launch.shared_bytes > USUAL_SHARED_BYTES {
            use sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as SHARED;
            // SAFETY: the function is the module's.
            unsafe { result::function::set_function_attribute(function, SHARED, launch.shared_bytes as i32) }
                .map_err(self.failed("give a block its shared memory"))?;
        }
        Ok(function)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.make_current();
        // SAFETY: nothing of the module or the context is used any more: what is holds the device. An error on the way
        // out helps nobody.
        unsafe {
            if !self.module.is_null() {
                let _ = result::module::unload(self.module);
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// Memory of a GPU.
pub struct Buffer {
    device: Arc<Device>,
    address: sys::CUdeviceptr,
    bytes: usize,
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
    first: *mut u8,
    bytes: usize,
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

    /// Starts a copy of the first bytes of `from`.
    ///
    /// # Safety
    /// Both stay, and `from` is not written, until the stream was waited for.
    ///
    /// # Errors
    /// When the driver refuses, or something before failed.
    pub unsafe fn upload(&self, from: &Pinned, bytes: usize, to: &Buffer) -> Result<(), DeviceError> {
        assert!(bytes <= from.bytes && bytes <= to.bytes, "{bytes} bytes of {} to {}", from.bytes, to.bytes);
        // SAFETY: inside both; the rest is the caller's promise.
        unsafe { result::memcpy_htod_async(to.address, &from.bytes()[..bytes], self.stream) }
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

    /// Waits for all that was started.
    ///
    /// # Errors
    /// What failed of it.
    pub fn wait(&self) -> Result<(), DeviceError> {
        // SAFETY: the stream is this value's.
        unsafe { result::stream::synchronize(self.stream) }.map_err(self.device.failed("finish a batch"))
    }

    /// Records what `f` starts instead of starting it.
    ///
    /// # Errors
    /// What `f` says; when the driver refuses.
    pub fn record(&self, f: impl FnOnce() -> Result<(), DeviceError>) -> Result<Recording, DeviceError> {
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
            made.map_err(&failed)?;
            Ok(Recording { device: self.device.clone(), executable })
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
