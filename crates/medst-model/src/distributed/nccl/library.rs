//! The functions of NCCL and of CUDA's driver that collectives need, from the libraries of the
//! machine, loaded at run time.
//!
//! Sources: `nccl.h` of NCCL 2 (documentation: *NCCL API*), `cuda.h` (*CUDA Driver API*); both keep
//! these functions unchanged within a major version.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::mem::transmute_copy;
use std::ptr::{NonNull, null_mut};

use crate::{Error, Result};

/// An opaque handle of a library's object.
pub type Handle = *mut c_void;

/// The stream that `libtorch` computes on: the legacy default stream.
pub const DEFAULT_STREAM: Handle = null_mut();

/// `CUDA_ERROR_NOT_READY`: no error, an event that has not come yet.
pub const NOT_READY: c_int = 600;

/// `CU_STREAM_NON_BLOCKING`: the default stream does not wait for it.
const NON_BLOCKING: c_uint = 1;

/// `CU_EVENT_DISABLE_TIMING`.
const WITHOUT_TIME: c_uint = 2;

/// `ncclUint8`.
const BYTE: c_int = 1;

/// `ncclSum`.
const SUM: c_int = 0;

/// `ncclDataType_t` of the summed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Number {
    Int64 = 4,
    Float32 = 7,
    Float64 = 8,
}

/// `ncclUniqueId`: what the processes of a communicator find each other by.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct UniqueId([u8; UniqueId::BYTES]);

impl UniqueId {
    const BYTES: usize = 128;

    /// # Errors
    /// Bytes of another number.
    pub fn from_bytes(bytes: &[u8]) -> Result<UniqueId> {
        let wrong = |_| Error::Distributed(format!("the NCCL ID of process 0 has {} bytes, expected 128", bytes.len()));
        bytes.try_into().map(UniqueId).map_err(wrong)
    }
}

/// A shared library, loaded for the life of the process.
struct Library(NonNull<c_void>);

impl Library {
    /// The first of these that there is.
    ///
    /// * `missing`: what is said where there is none, given what the system says.
    fn open(names: &[&str], missing: impl Fn(&str) -> String) -> Result<Library> {
        let mut said = Vec::new();
        for name in names {
            let path = CString::new(*name)
                .map_err(|_| Error::Distributed(missing(&format!("{name:?} is not a file name"))))?;
            // SAFETY: a C string; the libraries named here do nothing when they are loaded but
            // prepare themselves.
            let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            match NonNull::new(library) {
                Some(library) => return Ok(Library(library)),
                // SAFETY: the message of the call that failed, a C string or null.
                None => said.push(unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text)) }),
            }
        }
        let said: Vec<_> = said.into_iter().flatten().map(CStr::to_string_lossy).collect();
        Err(Error::Distributed(missing(&said.join("; "))))
    }

    /// A function of the library. `F` must be its type.
    fn symbol<F>(&self, name: &CStr) -> Result<F> {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>(), "a pointer to a function");
        // SAFETY: a handle of `dlopen`, and a C string.
        let address = unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) };
        if address.is_null() {
            let name = name.to_string_lossy();
            return Err(Error::Distributed(format!("the library has no function `{name}`; it may be too old")));
        }
        // SAFETY: not null, of a pointer's size, and of the type that the library's header
        // declares.
        Ok(unsafe { transmute_copy(&address) })
    }
}

/// CUDA's driver: contexts, streams and events.
pub struct Cuda {
    get_device: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    retain_context: unsafe extern "C" fn(*mut Handle, c_int) -> c_int,
    set_context: unsafe extern "C" fn(Handle) -> c_int,
    create_stream: unsafe extern "C" fn(*mut Handle, c_uint) -> c_int,
    create_event: unsafe extern "C" fn(*mut Handle, c_uint) -> c_int,
    record_event: unsafe extern "C" fn(Handle, Handle) -> c_int,
    wait_event: unsafe extern "C" fn(Handle, Handle, c_uint) -> c_int,
    query_event: unsafe extern "C" fn(Handle) -> c_int,
    error_string: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int,
}

impl Cuda {
    /// # Errors
    /// No driver.
    pub fn load() -> Result<Cuda> {
        Cuda::open(&["libcuda.so.1"])
    }

    pub(super) fn open(names: &[&str]) -> Result<Cuda> {
        let missing = |said: &str| format!("cannot load the CUDA driver ({said}); install the NVIDIA driver");
        let library = Library::open(names, missing)?;
        let init = library.symbol::<unsafe extern "C" fn(c_uint) -> c_int>(c"cuInit")?;
        let cuda = Cuda {
            get_device: library.symbol(c"cuDeviceGet")?,
            retain_context: library.symbol(c"cuDevicePrimaryCtxRetain")?,
            set_context: library.symbol(c"cuCtxSetCurrent")?,
            create_stream: library.symbol(c"cuStreamCreate")?,
            create_event: library.symbol(c"cuEventCreate")?,
            record_event: library.symbol(c"cuEventRecord")?,
            wait_event: library.symbol(c"cuStreamWaitEvent")?,
            query_event: library.symbol(c"cuEventQuery")?,
            error_string: library.symbol(c"cuGetErrorString")?,
        };
        // SAFETY: may be called any number of times.
        cuda.check("cuInit", unsafe { init(0) })?;
        Ok(cuda)
    }

    fn check(&self, what: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let mut text = std::ptr::null();
        // SAFETY: writes the address of a C string that lives for ever, or leaves null.
        let text = unsafe {
            (self.error_string)(code, &raw mut text);
            if text.is_null() { "unknown".into() } else { CStr::from_ptr(text).to_string_lossy() }
        };
        Err(Error::Distributed(format!("{what} failed: {text} ({code})")))
    }

    /// The primary context of a GPU, which all code in this process shares.
    pub fn context(&self, device: usize) -> Result<Handle> {
        let (mut number, mut context) = (0, null_mut());
        // SAFETY: each writes one value.
        unsafe {
            self.check("cuDeviceGet", (self.get_device)(&raw mut number, device as c_int))?;
            self.check("cuDevicePrimaryCtxRetain", (self.retain_context)(&raw mut context, number))?;
        }
        Ok(context)
    }

    /// Makes a context that of the calling thread.
    pub fn enter(&self, context: Handle) -> Result<()> {
        // SAFETY: a context of `context`, never released.
        self.check("cuCtxSetCurrent", unsafe { (self.set_context)(context) })
    }

    /// A stream that the default one does not wait for.
    pub fn stream(&self) -> Result<Handle> {
        let mut stream = null_mut();
        // SAFETY: writes one value.
        self.check("cuStreamCreate", unsafe { (self.create_stream)(&raw mut stream, NON_BLOCKING) })?;
        Ok(stream)
    }

    pub fn event(&self) -> Result<Handle> {
        let mut event = null_mut();
        // SAFETY: writes one value.
        self.check("cuEventCreate", unsafe { (self.create_event)(&raw mut event, WITHOUT_TIME) })?;
        Ok(event)
    }

    /// The event comes when everything is done that is on the stream now.
    pub fn record(&self, event: Handle, stream: Handle) -> Result<()> {
        // SAFETY: handles of this value.
        self.check("cuEventRecord", unsafe { (self.record_event)(event, stream) })
    }

    /// Makes later work on `stream` wait for all work that has been submitted to `other` so far.
    pub fn follow(&self, stream: Handle, other: Handle, event: Handle) -> Result<()> {
        self.record(event, other)?;
        // SAFETY: handles of this value.
        self.check("cuStreamWaitEvent", unsafe { (self.wait_event)(stream, event, 0) })
    }

    /// 0 when the event has come, [`NOT_READY`] before.
    pub fn query(&self, event: Handle) -> Result<c_int> {
        // SAFETY: a handle of this value.
        match unsafe { (self.query_event)(event) } {
            NOT_READY => Ok(NOT_READY),
            code => self.check("the work before cuEventQuery", code).map(|()| code),
        }
    }
}

/// NCCL.
pub struct Communication {
    #[cfg(test)]
    library: Library,
    get_unique_id: unsafe extern "C" fn(*mut UniqueId) -> c_int,
    init_rank: unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int) -> c_int,
    all_reduce: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, Handle) -> c_int,
    all_gather: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, Handle, Handle) -> c_int,
    broadcast: unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Handle, Handle) -> c_int,
    async_error: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
}

impl Communication {
    /// `MEDST_NCCL`, a path, or what the loader finds as `libnccl.so.2`, which `libtorch` has
    /// loaded where it has CUDA.
    ///
    /// # Errors
    /// None of them.
    pub fn load() -> Result<Communication> {
        match std::env::var("MEDST_NCCL") {
            Ok(path) => Communication::open(&[&path]),
            Err(_) => Communication::open(&["libnccl.so.2", "libnccl.so"]),
        }
    }

    pub(super) fn open(names: &[&str]) -> Result<Communication> {
        let missing = |said: &str| {
            format!(
                "cannot load NCCL ({said}); it comes with the CUDA wheels of PyTorch (nvidia-nccl) or the package \
                 libnccl2 of Debian and Ubuntu; set MEDST_NCCL=PATH to use another file"
            )
        };
        let library = Library::open(names, missing)?;
        Ok(Communication {
            get_unique_id: library.symbol(c"ncclGetUniqueId")?,
            init_rank: library.symbol(c"ncclCommInitRank")?,
            all_reduce: library.symbol(c"ncclAllReduce")?,
            all_gather: library.symbol(c"ncclAllGather")?,
            broadcast: library.symbol(c"ncclBroadcast")?,
            async_error: library.symbol(c"ncclCommGetAsyncError")?,
            error_string: library.symbol(c"ncclGetErrorString")?,
            #[cfg(test)]
            library,
        })
    }

    /// A further function, for tests.
    #[cfg(test)]
    pub(super) fn symbol<F>(&self, name: &CStr) -> Result<F> {
        self.library.symbol(name)
    }

    fn expect(&self, what: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: a C string of the library.
        let text = unsafe { CStr::from_ptr((self.error_string)(code)) }.to_string_lossy();
        Err(Error::Distributed(format!("{what} failed: {text} ({code}); set NCCL_DEBUG=INFO for details")))
    }

    /// Makes the identifier by which the processes of a new communicator find each other.
    pub fn unique_id(&self) -> Result<[u8; UniqueId::BYTES]> {
        let mut id = UniqueId([0; UniqueId::BYTES]);
        // SAFETY: writes one value.
        self.expect("ncclGetUniqueId", unsafe { (self.get_unique_id)(&raw mut id) })?;
        Ok(id.0)
    }

    /// Meets the others; the GPU is that of the calling thread's context.
    pub fn join(&self, id: UniqueId, rank: usize, size: usize) -> Result<Handle> {
        let mut communicator = null_mut();
        // SAFETY: writes one value.
        let code = unsafe { (self.init_rank)(&raw mut communicator, size as c_int, id, rank as c_int) };
        self.expect("ncclCommInitRank", code)?;
        Ok(communicator)
    }

    /// * `data`: `count` numbers on the GPU, which must stay valid until the stream has passed this
    ///   call.
    pub fn sum(&self, data: Handle, count: usize, number: Number, communicator: Handle, stream: Handle) -> Result<()> {
        // SAFETY: as the caller promises.
        let code = unsafe { (self.all_reduce)(data, data, count, number as c_int, SUM, communicator, stream) };
        self.expect("ncclAllReduce", code)
    }

    /// * `own`: `length` bytes; `all`: the same number for each process, in order.
    pub fn gather(&self, own: Handle, all: Handle, length: usize, communicator: Handle, stream: Handle) -> Result<()> {
        // SAFETY: as the caller promises.
        let code = unsafe { (self.all_gather)(own, all, length, BYTE, communicator, stream) };
        self.expect("ncclAllGather", code)
    }

    /// * `data`: `length` bytes, of process 0 afterwards.
    pub fn broadcast(&self, data: Handle, length: usize, communicator: Handle, stream: Handle) -> Result<()> {
        // SAFETY: as the caller promises.
        let code = unsafe { (self.broadcast)(data, data, length, BYTE, 0, communicator, stream) };
        self.expect("ncclBroadcast", code)
    }

    /// Whether an asynchronous error has occurred, such as a broken connection.
    pub fn check(&self, communicator: Handle) -> Result<()> {
        let mut code = 0;
        // SAFETY: a communicator of this value; writes one value.
        self.expect("ncclCommGetAsyncError", unsafe { (self.async_error)(communicator, &raw mut code) })?;
        // 7 is ncclInProgress.
        if code == 7 { Ok(()) } else { self.expect("a collective of NCCL", code) }
    }
}
