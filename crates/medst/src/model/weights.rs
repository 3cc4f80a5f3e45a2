//! Tensors in files: safetensors (ours) and PyTorch pickles (read without Python, executing nothing), and the strict
//! loading of a model from them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, View};
use tch::{Device, Kind, Tensor};

use super::card::ModelCard;
use super::{MedSt, Parameter, builtin};
use crate::{Error, Result, whole_file};
use medst_data::input;

/// The named tensors of a file, on the CPU, in the file's own precision.
#[derive(Debug)]
pub struct TensorFile {
    pub path: PathBuf,
    pub tensors: BTreeMap<String, Tensor>,
    /// Text in the head of the file.
    pub metadata: HashMap<String, String>,
    /// Names of tensors that stand beside the weights, such as an optimiser's; not read.
    pub beside: Vec<String>,
}

/// Under which key training programs save weights: Lightning, DeiT and MAE, others.
const WRAPPERS: [&str; 3] = ["state_dict", "model", "model_state_dict"];

/// How many times larger than its file tensors may be together. Tensors may share their values, which is what a file would use that
/// is made to fill memory.
const MAX_EXPANSION: u64 = 8;

impl TensorFile {
    /// Reads a safetensors file, or a PyTorch checkpoint (`.ckpt`, `.pt`, `.pth`, `.bin`; since 1.6 a zip archive, before
    /// that a stream of pickles, before 0.1.10 a tar archive); recognised by content. Weights are taken from under `state_dict` (Lightning),
    /// `model` (DeiT) or `model_state_dict` where a file has that.
    ///
    /// # Errors
    /// Names the file, and what about it is unreadable.
    ///
    /// The name of a model that is part of the program ([`builtin`]) stands for its weights.
    pub fn read(path: &Path) -> Result<TensorFile> {
        if let Some(builtin) = builtin::named(path) {
            return builtin.tensors();
        }
        let map = map(path)?;
        if is_pickled(&map) {
            return read_pickle(path, map.len() as u64);
        }
        TensorFile::from_bytes(path, &map)
    }
}

impl TensorFile {
    /// From the bytes of a safetensors file; `path` is what errors call it.
    ///
    /// # Errors
    /// Bytes that are not safetensors.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<TensorFile> {
        read_safetensors(path, bytes, |bytes, shape, kind| Ok(Tensor::f_from_data_size(bytes, shape, kind)?))
    }
}

/// Whether a file is PyTorch's: an archive (zip, or tar of old), or a bare pickle.
fn is_pickled(bytes: &[u8]) -> bool {
    let tar = bytes.get(257..262) == Some(b"ustar");
    // A safetensors file begins with the length of its head, whose lowest byte may be that of a pickle.
    let head = bytes.get(8) == Some(&b'{');
    bytes.starts_with(b"PK\x03\x04") || tar || (bytes.starts_with(&[0x80]) && !head)
}

/// The bytes of a file.
fn map(path: &Path) -> Result<memmap2::Mmap> {
    let file = input::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    if length == 0 {
        return Err(unusable(path, "the file is empty"));
    }
    if length > input::BULK {
        return Err(unusable(
            path,
            format!("{length} bytes are more than the {} of weights that are read", input::BULK),
        ));
    }
    // SAFETY: the map is only read. A file that another program truncates meanwhile is outside what any reader of mapped files can
    // defend against.
    unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path))
}

fn unusable(path: &Path, message: impl Into<String>) -> Error {
    Error::Weights { path: path.to_path_buf(), message: message.into() }
}

/// * `make`: a tensor of bytes, shape and kind.
fn read_safetensors(
    path: &Path,
    bytes: &[u8],
    make: impl Fn(&[u8], &[i64], Kind) -> Result<Tensor>,
) -> Result<TensorFile> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| unusable(path, format!("neither safetensors nor a PyTorch checkpoint ({error})")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.iter() {
        let kind = match view.dtype() {
            Dtype::F64 => Kind::Double,
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
            Dtype::I32 => Kind::Int,
            Dtype::I16 => Kind::Int16,
            Dtype::I8 => Kind::Int8,
            Dtype::U8 => Kind::Uint8,
            Dtype::BOOL => Kind::Bool,
            other => return Err(unusable(path, format!("tensor `{name}` has the unsupported type {other:?}"))),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
        tensors.insert(name.to_string(), make(view.data(), &shape, kind)?);
    }
    let metadata = SafeTensors::read_metadata(bytes).ok().and_then(|(_, head)| head.metadata().clone());
    Ok(TensorFile { path: path.to_path_buf(), tensors, metadata: metadata.unwrap_or_default(), beside: Vec::new() })
}

fn read_pickle(path: &Path, length: u64) -> Result<TensorFile> {
    use pytorch_reader::{DType, PickleValue, PytorchReader};
    let fail = |error: &dyn std::fmt::Display| {
        let remedy = "if PyTorch reads it, save the weights alone: torch.save(model.state_dict(), \"weights.pt\")";
        unusable(path, format!("unreadable PyTorch checkpoint: {error}; {remedy}"))
    };
    // The whole file, of which only names and sizes are read here; and what is under a key.
    let all = PytorchReader::new(path).map_err(|error| fail(&error))?;
    let under = |key: &str| {
        let reader = PytorchReader::with_top_level_key(path, key).ok().filter(|reader| !reader.is_empty())?;
        Some((reader, format!("{key}.")))
    };
    let (reader, mut beside) = match WRAPPERS.into_iter().find_map(under) {
        Some((reader, prefix)) => (reader, all.keys().into_iter().filter(|name| !name.starts_with(&prefix)).collect()),
        None => (all, Vec::new()),
    };
    beside.sort();
    let declared: u64 = reader.tensors().values().map(|tensor| tensor.byte_len() as u64).sum();
    if declared > length.saturating_mul(MAX_EXPANSION).saturating_add(1 << 20) {
        return Err(unusable(path, format!("a file of {length} bytes declares tensors of {declared} bytes")));
    }
    let mut metadata = HashMap::new();
    if let Ok(PickleValue::String(text)) = PytorchReader::read_pickle_data(path, Some(ModelCard::KEY)) {
        metadata.insert(ModelCard::KEY.to_string(), text);
    }
    let mut tensors = BTreeMap::new();
    for (name, tensor) in reader.tensors() {
        let kind = match tensor.dtype() {
            DType::F64 => Kind::Double,
            DType::F32 => Kind::Float,
            DType::F16 => Kind::Half,
            DType::BF16 => Kind::BFloat16,
            DType::I64 => Kind::Int64,
            DType::I32 => Kind::Int,
            DType::I16 => Kind::Int16,
            DType::I8 => Kind::Int8,
            DType::U8 => Kind::Uint8,
            DType::Bool => Kind::Bool,
            other => return Err(unusable(path, format!("tensor `{name}` has the unsupported type {other:?}"))),
        };
        let bytes = tensor.read().map_err(|error| fail(&error))?;
        let shape: Vec<i64> = tensor.shape().iter().map(|&side| side as i64).collect();
        tensors.insert(name.clone(), Tensor::f_from_data_size(&bytes, &shape, kind)?);
    }
    if tensors.is_empty() {
        return Err(unusable(path, "a PyTorch file without tensors"));
    }
    Ok(TensorFile { path: path.to_path_buf(), tensors, metadata, beside })
}

/// A tensor that is copied to bytes only while it is being written.
struct Written<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    kind: Kind,
    shape: Vec<usize>,
}

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.detach().to_device(Device::Cpu).to_kind(self.kind).contiguous();
        let mut bytes = vec![0; self.data_len()];
        tensor.copy_data_u8(&mut bytes, self.tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.kind.elt_size_in_bytes()
    }
}

/// Writes named tensors as safetensors; the file appears whole or not at all. Floating-point tensors keep their
/// precision (float64, float32 and float16), all others must be 64-bit integers.
pub fn write_safetensors(
    path: &Path,
    tensors: &[(&str, &Tensor)],
    metadata: Option<HashMap<String, String>>,
) -> Result<()> {
    let views: Vec<(&str, Written)> = tensors
        .iter()
        .map(|&(name, tensor)| {
            let (dtype, kind) = match tensor.kind() {
                Kind::Double => (Dtype::F64, Kind::Double),
                Kind::Int64 => (Dtype::I64, Kind::Int64),
                Kind::Uint8 => (Dtype::U8, Kind::Uint8),
                Kind::Half => (Dtype::F16, Kind::Half),
                _ => (Dtype::F32, Kind::Float),
            };
            let shape = tensor.size().iter().map(|&side| side as usize).collect();
            (name, Written { tensor, dtype, kind, shape })
        })
        .collect();
    let staged = whole_file::stage(path)?;
    safetensors::serialize_to_file(views, metadata, staged.path())
        .map_err(|error| unusable(path, format!("could not be written: {error}")))?;
    // The crate renames a file of its own over the staged one, so permissions and syncing are for what is there now.
    let permissions = staged.as_file().metadata().map_err(Error::io(path))?.permissions();
    let written = File::open(staged.path()).map_err(Error::io(path))?;
    written.set_permissions(permissions).and_then(|()| written.sync_all()).map_err(Error::io(path))?;
    whole_file::publish(staged, path)
}

impl MedSt {
    /// Writes parameters and running statistics under our names, atomically, with a card in the file's head.
    pub fn save(&self, path: &Path, card: Option<&ModelCard>) -> Result<()> {
        let all = self.parameters().iter().chain(self.buffers());
        let tensors: Vec<(&str, &Tensor)> = all.map(|entry| (entry.name.as_str(), &entry.tensor)).collect();
        write_safetensors(path, &tensors, card.map(ModelCard::metadata))
    }

    /// As [`MedSt::save`], with every value rounded to 16 bits (float16), which halves the file.
    ///
    /// # Errors
    /// Names a tensor with values beyond float16's range; a file that cannot be written.
    pub fn save_half(&self, path: &Path, card: &ModelCard) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let all = self.parameters().iter().chain(self.buffers());
        let halves: Vec<(&str, Tensor)> =
            all.map(|entry| (entry.name.as_str(), entry.tensor.to_kind(Kind::Half))).collect();
        if let Some((name, _)) = halves.iter().find(|(_, half)| half.isfinite().all().int64_value(&[]) == 0) {
            return Err(unusable(path, format!("`{name}` has values beyond the range of float16")));
        }
        let tensors: Vec<(&str, &Tensor)> = halves.iter().map(|(name, half)| (*name, half)).collect();
        write_safetensors(path, &tensors, Some(card.metadata()))
    }

    /// Fills the model from tensors by our names.
    ///
    /// # Errors
    /// As [`MedSt::load`].
    pub fn load_tensors(&mut self, file: &TensorFile) -> Result<()> {
        let wanted: Vec<Parameter> = self.parameters().iter().chain(self.buffers()).cloned().collect();
        let problems = fill(&wanted, &file.tensors);
        if problems.is_empty() { Ok(()) } else { Err(unusable(&file.path, summary(&problems))) }
    }

    /// Reads what [`MedSt::save`] wrote: from the file, which is mapped into memory, straight into the parameters.
    ///
    /// # Errors
    /// Missing, unknown and misshapen tensors are refused, each by name.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let map = map(path)?;
        let in_place = |bytes: &[u8], shape: &[i64], kind: Kind| {
            if !(bytes.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes()) {
                return Ok(Tensor::f_from_data_size(bytes, shape, kind)?);
            }
            let mut strides = vec![1; shape.len()];
            for axis in (1..shape.len()).rev() {
                strides[axis - 1] = strides[axis] * shape[axis];
            }
            // SAFETY: the bytes are as many as shape and kind ask for (safetensors checked it) and aligned. The tensors are read only,
            // and dropped before the map.
            Ok(unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &strides, kind, Device::Cpu)? })
        };
        let file = if is_pickled(&map) { TensorFile::read(path)? } else { read_safetensors(path, &map, in_place)? };
        self.load_tensors(&file)
    }

    /// Fills both encoders from a file of this program, and the lateral experts with copies of its frontal ones; everything else
    /// stays as it is.
    ///
    /// # Errors
    /// A file of the reference; missing and misshapen tensors, each by name.
    pub fn load_encoders(&mut self, file: &TensorFile) -> Result<()> {
        if crate::convert::reference::is_reference(&file.tensors) {
            let message = "encoders alone are taken from checkpoints of this program; init.take = \"all\" reads the \
                           reference's whole";
            return Err(unusable(&file.path, message));
        }
        let encoders = |name: &str| name.starts_with("image_encoder.") || name.starts_with("report_encoder.");
        let wanted: Vec<Parameter> = self.parameters().iter().filter(|own| encoders(&own.name)).cloned().collect();
        let source = |own: &Parameter| file.tensors.get(&own.name.replace("lateral_expert", "frontal_expert"));
        let found = wanted.iter().filter_map(|own| Some((own.name.clone(), source(own)?.shallow_clone()))).collect();
        let problems = fill(&wanted, &found);
        if problems.is_empty() { Ok(()) } else { Err(unusable(&file.path, summary(&problems))) }
    }
}

/// Copies tensors into parameters of the same names; returns what does not fit, in which case nothing was copied.
fn fill(wanted: &[Parameter], tensors: &BTreeMap<String, Tensor>) -> Vec<String> {
    let mut problems = Vec::new();
    for entry in wanted {
        match tensors.get(&entry.name) {
            None => problems.push(format!("`{}` is missing", entry.name)),
            Some(tensor) if tensor.size() != entry.tensor.size() => problems.push(format!(
                "`{}` has shape {:?} where the configuration asks for {:?}",
                entry.name,
                tensor.size(),
                entry.tensor.size()
            )),
            Some(_) => {}
        }
    }
    let names: std::collections::BTreeSet<&str> = wanted.iter().map(|entry| entry.name.as_str()).collect();
    problems.extend(
        tensors.keys().filter(|name| !names.contains(name.as_str())).map(|name| format!("`{name}` is unknown")),
    );
    if problems.is_empty() {
        wanted.iter().for_each(|entry| entry.fill(&tensors[&entry.name]));
    }
    problems
}

/// At most a few of many problems, in one line.
pub(crate) fn summary(problems: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text = problems.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if problems.len() > SHOWN {
        text += &format!("; and {} more", problems.len() - SHOWN);
    }
    text
}
