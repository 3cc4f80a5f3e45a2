//! Writes what `torch.save` writes: a zip archive of a pickle and the bytes of tensors. The pickle
//! holds dictionaries, tensors, numbers and text and nothing else, so that
//! `torch.load(…, weights_only=True)` reads it.
//!
//! The format (PyTorch's `torch/serialization.py`, file format 3): stored entries
//! `archive/data.pkl`, `archive/byteorder`, `archive/data/N`, `archive/version`, bytes of tensors
//! at multiples of 64. The same tensors give the same file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use medst_data::files::whole;
use tch::{Device, Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::{Error, Result};

/// A value of the dictionary that is written.
pub enum Value {
    Tensor(Tensor),
    /// A tensor of one value throughout, which takes the room of one number.
    Constant(f32, Vec<i64>),
    Number(i64),
    Text(String),
    Dictionary(Vec<(String, Value)>),
}

/// Writes a dictionary as a file for `torch.load`; the file appears whole or not at all.
///
/// # Errors
/// Names the file that cannot be written.
pub fn save(path: &Path, root: &[(String, Value)]) -> Result<()> {
    let staged = whole::stage(path)?;
    write(staged.as_file(), root).map_err(Error::io(path))?;
    Ok(whole::publish(staged, path)?)
}

fn write(file: &File, root: &[(String, Value)]) -> std::io::Result<()> {
    let mut pickle = Pickle::default();
    pickle.bytes.extend(b"\x80\x02");
    pickle.dictionary(root);
    pickle.bytes.push(b'.');

    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644)
        .with_alignment(64);
    let mut archive = ZipWriter::new(BufWriter::new(file));
    let mut entry = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("archive/{name}"), options.large_file(bytes.len() as u64 >= u64::from(u32::MAX)))?;
        archive.write_all(bytes)
    };
    entry("data.pkl", &pickle.bytes)?;
    entry("byteorder", b"little")?;
    for (number, tensor) in pickle.storages.iter().enumerate() {
        entry(&format!("data/{number}"), &bytes_of(tensor))?;
    }
    entry("version", b"3\n")?;
    archive.finish()?.flush()
}

/// The values of a tensor, row by row.
fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// A pickle of protocol 2 under construction, and the storages that it refers to by number.
#[derive(Default)]
struct Pickle {
    bytes: Vec<u8>,
    storages: Vec<Tensor>,
}

impl Pickle {
    fn dictionary(&mut self, entries: &[(String, Value)]) {
        self.bytes.extend(b"}(");
        for (key, value) in entries {
            self.text(key);
            self.value(value);
        }
        self.bytes.push(b'u');
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Tensor(tensor) => {
                let shape = tensor.size();
                let mut strides = vec![1; shape.len()];
                for axis in (1..shape.len()).rev() {
                    strides[axis - 1] = strides[axis] * shape[axis].max(1);
                }
                self.tensor(tensor.shallow_clone(), &shape, &strides);
            }
            Value::Constant(value, shape) => self.tensor(Tensor::from_slice(&[*value]), shape, &vec![0; shape.len()]),
            Value::Number(number) => self.number(*number),
            Value::Text(text) => self.text(text),
            Value::Dictionary(entries) => self.dictionary(entries),
        }
    }

    /// `torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`.
    fn tensor(&mut self, storage: Tensor, shape: &[i64], strides: &[i64]) {
        let class = match storage.kind() {
            Kind::Double => "DoubleStorage",
            Kind::Half => "HalfStorage",
            Kind::BFloat16 => "BFloat16Storage",
            Kind::Int64 => "LongStorage",
            Kind::Float => "FloatStorage",
            other => unreachable!("weights and counters are of no kind {other:?}"),
        };
        self.bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.bytes.extend(format!("ctorch\n{class}\n").as_bytes());
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.number(storage.numel() as i64);
        self.bytes.extend(b"tQ");
        self.number(0);
        self.tuple(shape);
        self.tuple(strides);
        self.bytes.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        self.storages.push(storage);
    }

    fn tuple(&mut self, numbers: &[i64]) {
        self.bytes.push(b'(');
        numbers.iter().for_each(|&number| self.number(number));
        self.bytes.push(b't');
    }

    fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    fn number(&mut self, number: i64) {
        match i32::try_from(number) {
            Ok(number) => {
                self.bytes.push(b'J');
                self.bytes.extend(number.to_le_bytes());
            }
            Err(_) => {
                self.bytes.extend(b"\x8a\x08");
                self.bytes.extend(number.to_le_bytes());
            }
        }
    }
}
