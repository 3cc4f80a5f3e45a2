//! Files of PyTorch are data: whatever a pickle asks for, nothing is executed, and a damaged or
//! hostile file is an error.

use std::io::Write;
use std::path::{Path, PathBuf};

use medst_model::convert::pickle::{self, Value};
use medst_model::model::weights::TensorFile;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::fixture;

/// Opcodes of protocol 2.
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Pickle {
        Pickle(b"\x80\x02".to_vec())
    }

    fn raw(mut self, bytes: &[u8]) -> Pickle {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Pickle {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    fn number(self, number: i64) -> Pickle {
        self.raw(b"\x8a\x08").raw(&number.to_le_bytes())
    }

    /// `os.system(command)`.
    fn system(self, command: &str) -> Pickle {
        self.raw(b"cposix\nsystem\n(").text(command).raw(b"tR")
    }

    /// A tensor of storage 0, which has `declared` values of a class, with one axis of `length` and
    /// a stride.
    fn tensor(self, class: &str, declared: i64, length: i64, stride: i64) -> Pickle {
        let storage =
            self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((").text("storage").raw(b"ctorch\n").raw(class.as_bytes());
        let storage = storage.raw(b"\n").text("0").text("cpu").number(declared).raw(b"tQ").number(0);
        storage.raw(b"(").number(length).raw(b"t(").number(stride).raw(b"t\x89ccollections\nOrderedDict\n)RtR")
    }

    /// As a zip archive with two float values in storage 0.
    fn file(self, folder: &Path) -> PathBuf {
        let path = folder.join("weights.pt");
        let mut archive = ZipWriter::new(std::fs::File::create(&path).unwrap());
        let options = SimpleFileOptions::default();
        for (name, bytes) in [("data.pkl", &self.0[..]), ("data/0", &[0, 0, 128, 63, 0, 0, 0, 64]), ("version", b"3\n")]
        {
            archive.start_file(format!("archive/{name}"), options).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
        path
    }
}

fn error(path: &Path) -> String {
    let error = TensorFile::read(path).unwrap_err().to_string();
    assert!(error.contains("weights.pt"), "{error}");
    error
}

#[test]
fn a_plain_file_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = Pickle::new().raw(b"}(").text("x").tensor("FloatStorage", 2, 2, 1).raw(b"u.").file(folder.path());
    let file = TensorFile::read(&path).unwrap();
    assert_eq!(Vec::<f32>::try_from(&file.tensors["x"]).unwrap(), [1.0, 2.0]);
}

#[test]
fn nothing_is_executed() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let command = format!("touch {}", mark.display());
    // As the whole file; bare, without the archive; in the place of a weight; in that of a shape.
    let whole = Pickle::new().system(&command).raw(b".");
    let bare = folder.path().join("bare-weights.pt");
    std::fs::write(&bare, &whole.0).unwrap();
    error(&bare);
    error(&whole.file(folder.path()));
    error(&Pickle::new().raw(b"}(").text("x").system(&command).raw(b"u.").file(folder.path()));
    let shape = Pickle::new().raw(b"}(").text("x").raw(b"ctorch._utils\n_rebuild_tensor_v2\n((").text("storage");
    let shape =
        shape.raw(b"ctorch\nFloatStorage\n").text("0").text("cpu").number(2).raw(b"tQ").number(0).system(&command);
    error(&shape.raw(b"(").number(1).raw(b"t\x89ccollections\nOrderedDict\n)RtRu.").file(folder.path()));
    // A command next to weights: the weights are read, and the command is not executed.
    let mixed =
        Pickle::new().raw(b"}(").text("x").tensor("FloatStorage", 2, 2, 1).text("y").system(&command).raw(b"u.");
    let file = TensorFile::read(&mixed.file(folder.path())).unwrap();
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["x"]);
    assert!(!mark.exists(), "the command was executed");
}

#[test]
fn declared_sizes_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let tensor = |declared: i64, length: i64, stride: i64| {
        Pickle::new()
            .raw(b"}(")
            .text("x")
            .tensor("FloatStorage", declared, length, stride)
            .raw(b"u.")
            .file(folder.path())
    };
    // More values than there are, in the storage or in the tensor; an overflow; a negative length.
    for (declared, length) in [(1 << 40, 1 << 40), (2, 3), (1 << 33, 1 << 33), (i64::MAX, i64::MAX), (2, -1)] {
        error(&tensor(declared, length, 1));
    }
    // A single value, repeated a thousand million times.
    let text = error(&tensor(2, 1_000_000_000, 0));
    assert!(text.contains("declares tensors of 4000000000 bytes"), "{text}");
}

#[test]
fn kinds_of_values_that_are_no_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let of = |class: &str| Pickle::new().raw(b"}(").text("x").tensor(class, 1, 1, 1).raw(b"u.").file(folder.path());
    for class in ["ComplexFloatStorage", "QInt8Storage"] {
        assert!(error(&of(class)).contains(class), "{class}");
    }
    assert!(error(&Pickle::new().raw(b"}.").file(folder.path())).contains("has no tensors"));
}

#[test]
fn empty_and_cut_files_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pt");
    std::fs::write(&path, b"").unwrap();
    assert!(error(&path).contains("the file is empty"));
    let whole = std::fs::read(fixture("deit.pth")).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    assert!(error(&path).contains("torch.save(model.state_dict()"));
    std::fs::write(&path, b"PK\x03\x04").unwrap();
    error(&path);
}

/// Tensors of any precision and shape, scalars and empty ones among them.
fn tensors() -> impl Strategy<Value = std::collections::BTreeMap<String, Tensor>> {
    let kind = prop::sample::select(vec![Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16, Kind::Int64]);
    let tensor = (prop::collection::vec(0i64..4, 0..4), kind, any::<i64>()).prop_map(|(shape, kind, seed)| {
        tch::manual_seed(seed);
        (Tensor::randn(&shape, (Kind::Float, Device::Cpu)) * 1e3).to_kind(kind)
    });
    prop::collection::btree_map("[a-zäß.0-9]{1,40}", tensor, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is written for torch reads back: names, shapes, kinds and bytes.
    #[test]
    fn what_is_written_reads_back(tensors in tensors(), number: i64, text: String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pt");
        let weights = tensors.iter().map(|(name, tensor)| (name.clone(), Value::Tensor(tensor.shallow_clone())));
        let mut weights: Vec<(String, Value)> = weights.collect();
        weights.push(("constant".into(), Value::Constant(0.5, vec![3, 2])));
        let root = [
            ("state_dict".to_string(), Value::Dictionary(weights)),
            ("number".to_string(), Value::Number(number)),
            ("text".to_string(), Value::Text(text)),
        ];
        pickle::save(&path, &root).unwrap();
        let file = TensorFile::read(&path).unwrap();
        prop_assert_eq!(file.tensors.len(), tensors.len() + 1);
        prop_assert!(file.tensors["constant"].equal(&Tensor::full([3, 2], 0.5, (Kind::Float, Device::Cpu))));
        for (name, tensor) in &tensors {
            let found = &file.tensors[name];
            prop_assert_eq!((found.size(), found.kind()), (tensor.size(), tensor.kind()));
            prop_assert!(found.equal(tensor), "{}", name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A file that was cut off is an error, wherever it was cut.
    #[test]
    fn cut_files_are_errors(share in 0.0..0.9999f64, legacy: bool) {
        let whole = std::fs::read(fixture(if legacy { "deit-legacy.pth" } else { "deit.pth" })).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pt");
        std::fs::write(&path, &whole[..(whole.len() as f64 * share) as usize]).unwrap();
        error(&path);
    }

    /// A damaged head or pickle is an error, or harmless; it ends at once and never panics.
    #[test]
    fn damaged_files_end_well(place in 0usize..6000, value: u8, legacy: bool) {
        let mut bytes = std::fs::read(fixture(if legacy { "deit-legacy.pth" } else { "deit.pth" })).unwrap();
        bytes[place] = value;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pt");
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(file) = TensorFile::read(&path) {
            let values: usize = file.tensors.values().map(tch::Tensor::numel).sum();
            prop_assert!(values < 100_000);
        }
    }
}
