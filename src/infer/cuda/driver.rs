//! A GPU by its driver.
//!
//! Owns: [`Device`], [`DeviceError`]. Must not know: networks, plans, memory.
//!
//! All handles are owned by values that free them; every call makes the device's context the thread's own first.

use super::{
    code, devices,
    launch::{Format, Launch},
};
use cudarc::driver::{
    result::{self, DriverError},
    sys,
};
use std::{
    collections::HashMap,
    ffi::CString,
    sync::{Mutex, PoisonError},
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
    memory_bytes: usize,
    cache_bytes: usize,
    multiprocessors: usize,
    has_wgmma: bool,
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
        let multiprocessors =
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(failed)?.max(1) as usize;
        // SAFETY: the device is the driver's own.
        let memory_bytes = unsafe { result::device::total_mem(device) }.map_err(failed)?;
        let images = code::images(format, (major, minor)).map_err(DeviceError::Unavailable)?;
        // SAFETY: the device is the driver's own; released when dropped.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(failed)?;
        let (module, functions) = (std::ptr::null_mut(), Mutex::default());
        let mut opened = Self {
            gpu,
            name,
            device,
            context,
            module,
            functions,
            memory_bytes,
            cache_bytes,
            multiprocessors,
            has_wgmma: false,
        };
        opened.make_current()?;
        let mut refused = String::new();
        for (i, image) in images.iter().enumerate() {
            // SAFETY: images are as the toolkit made them; text ends with 0.
            match unsafe { result::module::load_data(image.as_ptr().cast()) } {
                Ok(module) => {
                    opened.module = module;
                    // They are in the machine code alone, which comes before the text.
                    opened.has_wgmma = i + 1 < images.len();
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

    /// Bytes of its memory.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Bytes of its second-level cache.
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// How many multiprocessors it has.
    pub fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    /// Whether the kernels loaded have those of warpgroups.
    pub fn has_wgmma(&self) -> bool {
        self.has_wgmma
    }

    pub(super) fn failed(&self, what: &'static str) -> impl Fn(DriverError) -> DeviceError + '_ {
        move |e| DeviceError::Failed { gpu: self.gpu, what, why: text(e) }
    }

    pub(super) fn make_current(&self) -> Result<(), DeviceError> {
        // SAFETY: the context lives as long as the device.
        unsafe { result::ctx::set_current(self.context) }.map_err(self.failed("become this thread's"))
    }

    pub(super) fn allocated<T>(&self, bytes: usize, done: Result<T, DriverError>) -> Result<T, DeviceError> {
        done.map_err(|e| match e.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::Memory { gpu: self.gpu, bytes },
            _ => self.failed("give memory")(e),
        })
    }

    /// A kernel that may have this much shared memory.
    pub(super) fn function(&self, launch: &Launch) -> Result<sys::CUfunction, DeviceError> {
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
