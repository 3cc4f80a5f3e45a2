//! Passes numbers between Rust and Python without copying, by the DLPack protocol (its C
//! structures, unversioned, as `torch.from_dlpack`, `torch.utils.dlpack.to_dlpack` and NumPy
//! understand them).
//!
//! Nothing here touches Python's side of torch, whose symbols differ from one Python to the next:
//! so the module only needs the stable ABI.

use std::any::Any;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use tch::{Device, Kind, Tensor};

const NAME: &CStr = c"dltensor";
const CPU: i32 = 1;
const CUDA: i32 = 2;

#[repr(C)]
#[derive(Clone, Copy)]
struct DlDevice {
    kind: i32,
    id: i32,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq)]
struct DlType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: DlDevice,
    dimensions: i32,
    element: DlType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct DlManaged {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut DlManaged)>,
}

/// The target of a capsule: first the structure of the protocol, then the owner that keeps it
/// valid.
#[repr(C)]
struct Handed {
    managed: DlManaged,
    shape: Vec<i64>,
    strides: Vec<i64>,
    owner: Arc<dyn Any + Send + Sync>,
}

/// Supported kinds of numbers: code and bits of DLPack.
const KINDS: [(Kind, u8, u8); 8] = [
    (Kind::Float, 2, 32),
    (Kind::Double, 2, 64),
    (Kind::Half, 2, 16),
    (Kind::BFloat16, 4, 16),
    (Kind::Int64, 0, 64),
    (Kind::Int, 0, 32),
    (Kind::Uint8, 1, 8),
    (Kind::Bool, 6, 8),
];

/// Numbers that Rust computed. `torch.from_dlpack` and `numpy.from_dlpack` read them without a
/// copy.
#[pyclass(frozen, module = "medst._medst")]
pub struct Array {
    /// Keeps the memory alive; nothing is read through it.
    owner: Arc<dyn Any + Send + Sync>,
    address: usize,
    shape: Vec<i64>,
    strides: Vec<i64>,
    element: DlType,
    device: DlDevice,
}

impl Array {
    /// Rows of float32.
    pub fn of_rows(values: Vec<f32>, width: usize) -> Array {
        let shape = vec![(values.len() / width.max(1)) as i64, width as i64];
        Array::new(Arc::new(values), |values| values.as_ptr() as usize, shape, Kind::Float)
    }

    /// Float64 of any shape.
    ///
    /// # Panics
    /// If the shape does not have that many values.
    pub fn of_values(values: Vec<f64>, shape: Vec<i64>) -> Array {
        assert_eq!(values.len() as i64, shape.iter().product::<i64>(), "a shape of as many values");
        Array::new(Arc::new(values), |values| values.as_ptr() as usize, shape, Kind::Double)
    }

    fn new<T: Any + Send + Sync>(owner: Arc<T>, address: impl Fn(&T) -> usize, shape: Vec<i64>, kind: Kind) -> Array {
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        let address = address(&owner);
        let device = DlDevice { kind: CPU, id: 0 };
        Array { owner, address, shape, strides, element: element(kind).expect("a kind that crosses"), device }
    }

    /// A tensor that no other code modifies.
    pub fn of_tensor(tensor: Tensor) -> PyResult<Array> {
        let element = element(tensor.kind())?;
        let device = match tensor.device() {
            Device::Cuda(id) => DlDevice { kind: CUDA, id: id as i32 },
            _ => DlDevice { kind: CPU, id: 0 },
        };
        let (address, shape, strides) = (tensor.data_ptr() as usize, tensor.size(), tensor.stride());
        // A tensor may be sent to another thread but not used by two at once; the mutex is never
        // locked, it only keeps the tensor alive.
        Ok(Array { owner: Arc::new(Mutex::new(tensor)), address, shape, strides, element, device })
    }
}

fn element(kind: Kind) -> PyResult<DlType> {
    let known = KINDS.into_iter().find(|known| known.0 == kind);
    let (_, code, bits) =
        known.ok_or_else(|| PyTypeError::new_err(format!("tensors of type {kind:?} are not supported")))?;
    Ok(DlType { code, bits, lanes: 1 })
}

#[pymethods]
impl Array {
    /// A new capsule for each caller; all share the memory.
    #[pyo3(signature = (**_wishes))]
    fn __dlpack__<'py>(&self, py: Python<'py>, _wishes: Option<Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyCapsule>> {
        let mut handed = Box::new(Handed {
            managed: DlManaged {
                tensor: DlTensor {
                    data: self.address as *mut c_void,
                    device: self.device,
                    dimensions: self.shape.len() as i32,
                    element: self.element,
                    shape: std::ptr::null_mut(),
                    strides: std::ptr::null_mut(),
                    byte_offset: 0,
                },
                context: std::ptr::null_mut(),
                deleter: Some(delete),
            },
            shape: self.shape.clone(),
            strides: self.strides.clone(),
            owner: self.owner.clone(),
        });
        handed.managed.tensor.shape = handed.shape.as_mut_ptr();
        handed.managed.tensor.strides = handed.strides.as_mut_ptr();
        let pointer = NonNull::from(Box::leak(handed)).cast();
        // SAFETY: the pointer is that of a `DlManaged` (the first field), as the name of the
        // capsule states; a consumer of the capsule renames it and calls the deleter, otherwise
        // `drop_capsule` does.
        unsafe { PyCapsule::new_with_pointer_and_destructor(py, pointer, NAME, Some(drop_capsule)) }
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        (self.device.kind, self.device.id)
    }

    /// Address of the first number.
    #[getter]
    fn address(&self) -> usize {
        self.address
    }
}

unsafe extern "C" fn delete(managed: *mut DlManaged) {
    // SAFETY: `managed` is the first field of a `Handed` that `__dlpack__` leaked, and the protocol
    // calls this once.
    let handed = unsafe { Box::from_raw(managed.cast::<Handed>()) };
    drop(handed.owner);
}

unsafe extern "C" fn drop_capsule(capsule: *mut ffi::PyObject) {
    // SAFETY: Python calls this with a capsule that this module made; a capsule that still has its
    // first name was not consumed.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, NAME.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()).cast());
        }
    }
}

/// A borrowed tensor of Python, valid as long as this value lives.
pub struct Lent {
    pub tensor: Tensor,
    /// Keeps the memory alive.
    _capsule: Py<PyCapsule>,
}

impl Lent {
    /// * `capsule`: made by `torch.utils.dlpack.to_dlpack`; it is not consumed.
    pub fn new(capsule: &Bound<'_, PyCapsule>) -> PyResult<Lent> {
        let pointer = capsule.pointer_checked(Some(NAME))?.cast::<DlManaged>();
        // SAFETY: a capsule of that name points to this structure, which is valid while the capsule
        // lives.
        let tensor = unsafe { &pointer.as_ref().tensor };
        let count = usize::try_from(tensor.dimensions).map_err(|_| PyValueError::new_err("the tensor has no shape"))?;
        let list = |numbers: *mut i64| match count {
            0 => Vec::new(),
            // SAFETY: by the protocol, the array there has one number per dimension.
            _ => unsafe { std::slice::from_raw_parts(numbers, count) }.to_vec(),
        };
        let shape = list(tensor.shape);
        let strides = match tensor.strides.is_null() {
            true => (0..count).map(|axis| shape[axis + 1..].iter().product()).collect(),
            false => list(tensor.strides),
        };
        let kind = KINDS.into_iter().find(|known| tensor.element == DlType { code: known.1, bits: known.2, lanes: 1 });
        let (kind, _, _) = kind.ok_or_else(|| PyTypeError::new_err("tensors of this dtype are not supported"))?;
        let device = match tensor.device {
            DlDevice { kind: CPU, .. } => Device::Cpu,
            DlDevice { kind: CUDA, id } => Device::Cuda(id as usize),
            _ => return Err(PyTypeError::new_err("only tensors on the CPU and on CUDA devices are supported")),
        };
        let data = tensor.data.cast::<u8>().wrapping_add(tensor.byte_offset as usize);
        // SAFETY: the memory is what the capsule describes, and lives as long as the capsule, which
        // is kept together with the tensor.
        let tensor = unsafe { Tensor::from_blob(data, &shape, &strides, kind, device) };
        Ok(Lent { tensor, _capsule: capsule.clone().unbind() })
    }
}
