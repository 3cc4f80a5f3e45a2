//! Tensors in files: safetensors (ours) and PyTorch pickles (read without Python, executing
//! nothing), and the strict loading of a model from them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use medst_data::files::sums::Sums;
use medst_data::files::whole;
use safetensors::tensor::{Dtype, Metadata, TensorInfo, View};
use tch::{Device, Kind, Tensor};

use super::card::ModelCard;
use super::{MedSt, Parameter, builtin};
use medst_data::input;

use crate::{Error, Result};

/// The named tensors of a file, on the CPU, in the file's own precision.
#[derive(Debug)]
pub struct TensorFile {
    pub path: PathBuf,
    pub tensors: BTreeMap<String, Tensor>,
    /// Text in the header of the file.
    pub metadata: HashMap<String, String>,
    /// Names of tensors that are stored next to the weights, such as an optimiser's; not read.
    pub unread: Vec<String>,
}

/// Keys under which training programs save weights: Lightning, DeiT and MAE, others.
const WRAPPERS: [&str; 3] = ["state_dict", "model", "model_state_dict"];

/// Largest ratio of the size of all tensors to the size of their file. Tensors may share their
/// values, so without this limit a small malicious file could fill the memory.
const MAX_EXPANSION: u64 = 8;

impl TensorFile {
    /// Reads a safetensors file, or a PyTorch checkpoint (`.ckpt`, `.pt`, `.pth`, `.bin`; since 1.6
    /// a zip archive, before that a stream of pickles, before 0.1.10 a tar archive); recognised by
    /// content. Weights are taken from under `state_dict` (Lightning), `model` (DeiT) or
    /// `model_state_dict` where a file has that. Where the file's folder has checksums, it is
    /// checked first.
    ///
    /// # Errors
    /// Names the file, and what about it is unreadable or damaged.
    ///
    /// The name of a built-in model ([`builtin`]) gives its weights.
    pub fn read(path: &Path) -> Result<TensorFile> {
        if let Some(builtin) = builtin::named(path) {
            return builtin.tensors();
        }
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name())
            && let Some(sums) = Sums::read(folder)?
        {
            sums.check(folder, &name.to_string_lossy())?;
        }
        TensorFile::read_checked(path)
    }

    /// Like [`TensorFile::read`], for a file whose checksum has already been compared.
    pub fn read_checked(path: &Path) -> Result<TensorFile> {
        match open(path)? {
            Opened::Pickled(length) => read_pickle(path, length),
            Opened::Safetensors(file) => file.all(path),
        }
    }
}

impl TensorFile {
    /// From the bytes of a safetensors file; `path` is what errors call it.
    ///
    /// # Errors
    /// Bytes that are not safetensors.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<TensorFile> {
        Safetensors::open(path, bytes, bytes.len() as u64)?.all(path)
    }
}

/// Whether a file is PyTorch's: an archive (zip, or tar of old), or a bare pickle.
fn is_pickled(bytes: &[u8]) -> bool {
    let tar = bytes.get(257..262) == Some(b"ustar");
    // A safetensors file begins with the length of its head, whose lowest byte may be that of a
    // pickle.
    let head = bytes.get(8) == Some(&b'{');
    bytes.starts_with(b"PK\x03\x04") || tar || (bytes.starts_with(&[0x80]) && !head)
}

/// A file of weights whose head was read.
enum Opened {
    /// Reads a PyTorch file of `length` bytes.
    Pickled(u64),
    Safetensors(Safetensors<File>),
}

fn open(path: &Path) -> Result<Opened> {
    let file = input::open(path).map_err(Error::io(path))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    if length == 0 {
        return Err(unusable(path, "the file is empty"));
    }
    if length > input::BULK {
        return Err(unusable(path, format!("weights too large: {length} bytes (limit {})", input::BULK)));
    }
    let mut start = [0; 512];
    let start = &mut start[..length.min(512) as usize];
    file.read_exact_at(start, 0).map_err(Error::io(path))?;
    if is_pickled(start) {
        return Ok(Opened::Pickled(length));
    }
    Ok(Opened::Safetensors(Safetensors::open(path, file, length)?))
}

/// Bytes that can be read from any place: a file, or what is in memory.
trait ReadAt {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.read_exact_at(bytes, offset)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
        let found = self.get(offset as usize..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(found.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A safetensors file whose tensors are read when they are asked for. (Not mapped into memory: a
/// mapped file that another program cuts short ends this one with SIGBUS.)
struct Safetensors<R> {
    source: R,
    /// Position at which the tensors begin.
    start: u64,
    metadata: Metadata,
}

impl<R: ReadAt> Safetensors<R> {
    /// Reads the head: its length in eight bytes, then JSON.
    fn open(path: &Path, source: R, length: u64) -> Result<Safetensors<R>> {
        /// The limit of the crate `safetensors`.
        const LONGEST_HEAD: u64 = 100_000_000;
        let fail = |reason: &dyn std::fmt::Display| {
            unusable(path, format!("neither safetensors nor a PyTorch checkpoint ({reason})"))
        };
        let mut size = [0; 8];
        source.read_at(&mut size, 0).map_err(|_| fail(&"it is too short"))?;
        let size = u64::from_le_bytes(size);
        if size > LONGEST_HEAD || size + 8 > length {
            return Err(fail(&"it is not a safetensors file: the stated length of its header is impossible"));
        }
        let mut head = vec![0; size as usize];
        source.read_at(&mut head, 8).map_err(Error::io(path))?;
        let metadata: Metadata = serde_json::from_slice(&head).map_err(|error| fail(&error))?;
        let start = 8 + size;
        if start + metadata.data_len() as u64 != length {
            let expected = start + metadata.data_len() as u64;
            return Err(fail(&format!(
                "it has {length} bytes, but its header describes {expected}; the file is damaged or truncated"
            )));
        }
        Ok(Safetensors { source, start, metadata })
    }

    /// One tensor, on the CPU.
    fn tensor(&self, path: &Path, name: &str, info: &TensorInfo) -> Result<Tensor> {
        let kind = match info.dtype {
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
        let shape: Vec<i64> = info.shape.iter().map(|&side| side as i64).collect();
        let tensor = Tensor::f_empty(&shape, (kind, Device::Cpu))?;
        let (from, to) = info.data_offsets;
        if to > from {
            // SAFETY: a new, contiguous tensor whose bytes are as many as its shape and type ask
            // for, which is what the crate checked the offsets against. Nothing else has a handle
            // to it.
            let bytes = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), to - from) };
            self.source.read_at(bytes, self.start + from as u64).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => unusable(path, "the file was truncated while it was read"),
                _ => Error::io(path)(error),
            })?;
        }
        Ok(tensor)
    }

    fn all(&self, path: &Path) -> Result<TensorFile> {
        let infos = self.metadata.tensors();
        let tensors = infos.iter().map(|(name, info)| Ok((name.clone(), self.tensor(path, name, info)?)));
        let metadata = self.metadata.metadata().clone().unwrap_or_default();
        Ok(TensorFile {
            path: path.to_path_buf(),
            tensors: tensors.collect::<Result<_>>()?,
            metadata,
            unread: Vec::new(),
        })
    }
}

fn unusable(path: &Path, message: impl Into<String>) -> Error {
    Error::Weights { path: path.to_path_buf(), message: message.into() }
}

fn read_pickle(path: &Path, length: u64) -> Result<TensorFile> {
    use pytorch_reader::{DType, PickleValue, PytorchReader};
    let fail = |error: &dyn std::fmt::Display| {
        let remedy = "if PyTorch can load it, save only the weights: torch.save(model.state_dict(), \"weights.pt\")";
        unusable(path, format!("unreadable PyTorch checkpoint: {error}; {remedy}"))
    };
    // The whole file, of which only names and sizes are read here; and what is under a key.
    let all = PytorchReader::new(path).map_err(|error| fail(&error))?;
    let under = |key: &str| {
        let reader = PytorchReader::with_top_level_key(path, key).ok().filter(|reader| !reader.is_empty())?;
        Some((reader, format!("{key}.")))
    };
    let (reader, mut unread) = match WRAPPERS.into_iter().find_map(under) {
        Some((reader, prefix)) => (reader, all.keys().into_iter().filter(|name| !name.starts_with(&prefix)).collect()),
        None => (all, Vec::new()),
    };
    unread.sort();
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
        return Err(unusable(path, "the PyTorch file has no tensors"));
    }
    Ok(TensorFile { path: path.to_path_buf(), tensors, metadata, unread })
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

/// Writes named tensors as safetensors; the file appears whole or not at all. Floating-point
/// tensors keep their precision (float64, float32 and float16), all others must be 64-bit integers.
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
    let staged = whole::stage(path)?;
    safetensors::serialize_to_file(views, metadata, staged.path())
        .map_err(|error| unusable(path, format!("could not be written: {error}")))?;
    // The crate renames another file over the staged one, so permissions and syncing apply to the
    // file that is there now.
    let permissions = staged.as_file().metadata().map_err(Error::io(path))?.permissions();
    let written = File::open(staged.path()).map_err(Error::io(path))?;
    written.set_permissions(permissions).and_then(|()| written.sync_all()).map_err(Error::io(path))?;
    Ok(whole::publish(staged, path)?)
}

impl MedSt {
    /// Writes parameters and running statistics under our names, atomically, with a card in the
    /// file's head.
    pub fn save(&self, path: &Path, card: Option<&ModelCard>) -> Result<()> {
        let all = self.parameters().iter().chain(self.buffers());
        let tensors: Vec<(&str, &Tensor)> = all.map(|entry| (entry.name.as_str(), &entry.tensor)).collect();
        write_safetensors(path, &tensors, card.map(ModelCard::metadata))
    }

    /// Like [`MedSt::save`], with every value rounded to 16 bits (float16), which halves the file.
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
        self.fill_by(&file.path, file.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.size())), |name| {
            Ok(file.tensors[name].shallow_clone())
        })
    }

    /// Reads what [`MedSt::save`] wrote, one tensor at a time.
    ///
    /// # Errors
    /// Missing, unknown and misshapen tensors are refused, each by name, and the model is
    /// unchanged. Values that are not finite are also refused by name, but leave the model
    /// unusable.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let file = match open(path)? {
            Opened::Pickled(length) => return self.load_tensors(&read_pickle(path, length)?),
            Opened::Safetensors(file) => file,
        };
        let infos = file.metadata.tensors();
        let shape = |info: &TensorInfo| info.shape.iter().map(|&side| side as i64).collect();
        let shapes = infos.iter().map(|(name, info)| (name.as_str(), shape(info)));
        self.fill_by(path, shapes, |name| file.tensor(path, name, infos[name]))
    }

    /// * `shapes`: the shapes of all tensors in the file; * `read`: reads one of them.
    fn fill_by<'a>(
        &self,
        path: &Path,
        shapes: impl Iterator<Item = (&'a str, Vec<i64>)>,
        read: impl Fn(&str) -> Result<Tensor>,
    ) -> Result<()> {
        let wanted: Vec<&Parameter> = self.parameters().iter().chain(self.buffers()).collect();
        let problems = misfits(&wanted, &shapes.collect());
        if !problems.is_empty() {
            return Err(unusable(path, summary(&problems)));
        }
        for entry in wanted {
            fill(path, entry, &read(&entry.name)?)?;
        }
        Ok(())
    }
}

/// Lists tensors that are missing, misshapen or unknown.
fn misfits(wanted: &[&Parameter], shapes: &BTreeMap<&str, Vec<i64>>) -> Vec<String> {
    let mut problems = Vec::new();
    for entry in wanted {
        match shapes.get(entry.name.as_str()) {
            None => problems.push(format!("`{}` is missing", entry.name)),
            Some(shape) if *shape != entry.tensor.size() => problems.push(format!(
                "`{}` has shape {shape:?}, but the configuration requires {:?}",
                entry.name,
                entry.tensor.size()
            )),
            Some(_) => {}
        }
    }
    let names: std::collections::BTreeSet<&str> = wanted.iter().map(|entry| entry.name.as_str()).collect();
    problems.extend(shapes.keys().filter(|name| !names.contains(*name)).map(|name| format!("unknown tensor `{name}`")));
    problems
}

/// Copies a tensor into a parameter of its shape.
///
/// # Errors
/// Values that are not finite, or would not be after rounding to the precision of the layers.
fn fill(path: &Path, entry: &Parameter, tensor: &Tensor) -> Result<()> {
    let name = &entry.name;
    if !is_finite(tensor) {
        return Err(unusable(path, format!("`{name}` holds values that are not finite")));
    }
    entry.fill(tensor);
    let rounded = [(entry.tensor.kind() != tensor.kind(), &entry.tensor), (entry.is_copied(), &entry.working)];
    if rounded.into_iter().all(|(is_rounded, values)| !is_rounded || is_finite(values)) {
        return Ok(());
    }
    Err(unusable(path, format!("`{name}` holds values beyond the range of {:?}", entry.working.kind())))
}

/// Whether a tensor is free of NaN and infinity.
pub fn is_finite(tensor: &Tensor) -> bool {
    if tensor.numel() == 0 || !tensor.is_floating_point() {
        return true;
    }
    // A NaN is the smallest and the largest of all values.
    let (least, most) = tensor.detach().aminmax(None::<i64>, false);
    least.to_kind(Kind::Double).double_value(&[]).is_finite()
        && most.to_kind(Kind::Double).double_value(&[]).is_finite()
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
