//! Rows of numbers: embeddings and features, wherever they came from.

use std::io::Read;
use std::path::Path;

use crate::{Error, Result};
use medst_data::input;

/// `n` rows of one width, float32.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    values: Vec<f32>,
    width: usize,
}

impl Vectors {
    /// Rows of `width` numbers one after the other.
    ///
    /// # Errors
    /// No width, or numbers that fill no whole number of rows.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Vectors> {
        if width == 0 || !values.len().is_multiple_of(width) {
            let count = values.len();
            return Err(Error::Evaluation(format!("{count} values do not make rows of {width}")));
        }
        Ok(Vectors { values, width })
    }

    /// From rows, which must have one width.
    ///
    /// # Errors
    /// Names the first row of another width.
    pub fn from_rows<R: AsRef<[f32]>>(rows: impl IntoIterator<Item = R>) -> Result<Vectors> {
        let (mut values, mut width) = (Vec::new(), 0);
        for (number, row) in rows.into_iter().enumerate() {
            let row = row.as_ref();
            if number == 0 {
                width = row.len();
            }
            if row.len() != width {
                return Err(Error::Evaluation(format!("row {number} has {} values, but row 0 has {width}", row.len())));
            }
            values.extend_from_slice(row);
        }
        Vectors::new(values, width.max(1))
    }

    /// From a tensor `[n, D]` of any float kind.
    ///
    /// # Errors
    /// Another number of dimensions.
    pub fn from_tensor(x: &tch::Tensor) -> Result<Vectors> {
        let (_, width) = x.size2()?;
        let values = x.to_device(tch::Device::Cpu).to_kind(tch::Kind::Float).contiguous().view([-1]);
        Vectors::new(Vec::<f32>::try_from(values)?, width as usize)
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    /// All numbers, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The rows that are named, in that order.
    pub fn select(&self, rows: &[usize]) -> Vectors {
        Vectors { values: rows.iter().flat_map(|&row| self.row(row)).copied().collect(), width: self.width }
    }

    /// Adds the rows of others, which must have the same width.
    pub(crate) fn append(&mut self, others: Vectors) {
        debug_assert_eq!(self.width, others.width);
        self.values.extend(others.values);
    }

    /// Concatenates the rows of two sets of vectors: `[n, D₁ + D₂]`.
    ///
    /// # Errors
    /// Different numbers of rows.
    pub fn concatenate(first: &Vectors, second: &Vectors) -> Result<Vectors> {
        if first.len() != second.len() {
            return Err(Error::Evaluation(format!("cannot concatenate {} rows with {}", first.len(), second.len())));
        }
        let values = first.rows().zip(second.rows()).flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
        Vectors::new(values, first.width + second.width)
    }

    /// Whether a row is free of NaN and infinity.
    pub fn is_finite(&self, row: usize) -> bool {
        self.row(row).iter().all(|value| value.is_finite())
    }

    /// The first row that is neither finite nor NaN throughout. (A row of NaN throughout marks a
    /// missing vector.)
    pub fn partial_row(&self) -> Option<usize> {
        let is_partial = |row: &[f32]| !row.iter().all(|x| x.is_finite()) && !row.iter().all(|x| x.is_nan());
        self.rows().position(is_partial)
    }

    /// Rows scaled to unit length; rows of zeros stay zeros.
    pub fn unit(&self) -> Vectors {
        let mut values = self.values.clone();
        for row in values.chunks_exact_mut(self.width) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= if norm > 0.0 { norm } else { 1.0 });
        }
        Vectors { values, width: self.width }
    }

    /// The mean of all rows, scaled to unit length; zeros for no rows.
    pub fn mean_direction(&self) -> Vec<f32> {
        let mut mean = vec![0.0; self.width];
        self.rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
        let mean = Vectors { values: mean, width: self.width };
        mean.unit().values
    }

    /// `[n, D]` float32 on the CPU.
    pub fn tensor(&self) -> tch::Tensor {
        tch::Tensor::from_slice(&self.values).view([self.len() as i64, self.width as i64])
    }

    /// Reads a NumPy file of float32 or float64 `[n, D]`.
    ///
    /// # Errors
    /// Names the file: missing, of another type or shape, or of a size that does not fit its shape.
    pub fn read_npy(path: &Path) -> Result<Vectors> {
        let fail = |message: String| Error::Evaluation(format!("{}: {message}", path.display()));
        let file = input::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let (shape, values) = npy(file, length).map_err(|error| fail(error.to_string()))?;
        let &[_, width] = shape.as_slice() else {
            return Err(fail(format!("has shape {shape:?}, expected [rows, width]")));
        };
        Vectors::new(values, width).map_err(|_| fail("has no rows".into()))
    }
}

/// Why a file is not read as NumPy's format.
#[derive(Debug, thiserror::Error)]
enum NpyError {
    #[error("not a NumPy file")]
    NotNumpy,
    #[error("is stored in column-major order (fortran_order), expected row-major")]
    ColumnMajor,
    #[error("has values of type {0}, expected float32 or float64")]
    Kind(String),
    #[error("{what}: {length} bytes, expected {expected} for its shape {shape:?}")]
    Length { what: &'static str, length: u64, expected: u64, shape: Vec<usize> },
    #[error("has {0} bytes; at most {most} of a file of this kind are read", most = input::BULK)]
    TooLong(u64),
    #[error("does not fit into memory: {0} bytes")]
    Memory(u64),
    #[error("was truncated while it was read: {0}")]
    Read(std::io::Error),
}

/// Shape and values of NumPy's format, versions 1 to 3. No value is read, and no memory taken,
/// unless the size of the file is the one that its header states.
///
/// * `length`: bytes of the file.
fn npy(mut file: impl Read, length: u64) -> Result<(Vec<usize>, Vec<f32>), NpyError> {
    /// NumPy refuses longer headers too.
    const LONGEST_HEADER: usize = 10_000;
    let mut take = |count: usize| {
        let mut bytes = vec![0; count];
        file.read_exact(&mut bytes).map(|()| bytes).map_err(|_| NpyError::NotNumpy)
    };
    let start = take(8)?;
    let version = start.strip_prefix(b"\x93NUMPY").ok_or(NpyError::NotNumpy)?[0];
    let size = take(if version == 1 { 2 } else { 4 })?;
    let header = size.iter().rev().fold(0, |size, &byte| size << 8 | usize::from(byte));
    if header > LONGEST_HEADER {
        return Err(NpyError::NotNumpy);
    }
    let data = (start.len() + size.len() + header) as u64;
    let header = String::from_utf8(take(header)?).map_err(|_| NpyError::NotNumpy)?;
    if header.contains("'fortran_order': True") {
        return Err(NpyError::ColumnMajor);
    }
    let between = |start: &str, end: char| {
        let tail = &header[header.find(start)? + start.len()..];
        Some(&tail[..tail.find(end)?])
    };
    let kind = between("'descr': '", '\'').ok_or(NpyError::NotNumpy)?;
    let shape: Option<Vec<usize>> = between("'shape': (", ')')
        .ok_or(NpyError::NotNumpy)?
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().ok())
        .collect();
    let shape = shape.ok_or(NpyError::NotNumpy)?;
    let count = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side)).ok_or(NpyError::NotNumpy)?;
    let single: fn(&[u8]) -> Vec<f32> =
        |bytes| bytes.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
    let double: fn(&[u8]) -> Vec<f32> =
        |bytes| bytes.as_chunks::<8>().0.iter().map(|&x| f64::from_le_bytes(x) as f32).collect();
    let (bytes, convert) = match kind {
        "<f4" => (4, single),
        "<f8" => (8, double),
        other => return Err(NpyError::Kind(other.into())),
    };
    let expected =
        (count as u64).checked_mul(bytes).and_then(|values| values.checked_add(data)).ok_or(NpyError::NotNumpy)?;
    if length != expected {
        let what = if length < expected { "is truncated" } else { "has bytes after its values" };
        return Err(NpyError::Length { what, length, expected, shape });
    }
    if length > input::BULK {
        return Err(NpyError::TooLong(length));
    }
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| NpyError::Memory(length))?;
    let mut piece = vec![0; 1 << 20];
    let mut left = (expected - data) as usize;
    while left > 0 {
        let piece = &mut piece[..left.min(1 << 20)];
        file.read_exact(piece).map_err(NpyError::Read)?;
        values.extend(convert(piece));
        left -= piece.len();
    }
    Ok((shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy_bytes(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn numpy_files_are_read_and_others_refused() {
        let data: Vec<u8> = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let read = |bytes: &[u8]| npy(bytes, bytes.len() as u64);
        let (shape, values) = read(&npy_bytes("<f4", "(2, 3)", &data)).unwrap();
        assert_eq!((shape, values), (vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let wide: Vec<u8> = [1f64, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(read(&npy_bytes("<f8", "(2,)", &wide)).unwrap().1, [1.0, 2.0]);
        for (bytes, expected) in [
            (npy_bytes("<f4", "(2, 4)", &data), "truncated"),
            (npy_bytes("<f4", "(2, 2)", &data), "after its values"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "not a NumPy"),
            (npy_bytes("<i8", "(2, 3)", &data), "<i8"),
            (b"\x93NUMPY\x01".to_vec(), "not a NumPy"),
            (b"PK".to_vec(), "not a NumPy"),
        ] {
            assert!(read(&bytes).unwrap_err().to_string().contains(expected));
        }
    }

    #[test]
    fn what_a_header_promises_is_compared_with_the_size_before_values_are_read() {
        struct Head(Vec<u8>);
        impl Read for Head {
            fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
                let count = bytes.len().min(self.0.len());
                assert!(count > 0 || bytes.is_empty(), "values are read");
                self.0.drain(..count).zip(bytes).for_each(|(from, to)| *to = from);
                Ok(count)
            }
        }
        for (shape, length) in [("(4000000000, 4)", 4096), ("(2, 2)", 50 << 30), ("(12500000000, 1)", 50_000_000_000)] {
            let refused = npy(Head(npy_bytes("<f4", shape, &[])), length).unwrap_err().to_string();
            assert!(refused.contains("expected"), "{refused}");
        }
        let giant = npy_bytes("<f4", "(20000000000, 1)", &[]);
        let length = giant.len() as u64 + 80_000_000_000;
        assert!(npy(Head(giant), length).unwrap_err().to_string().contains("at most"));
    }

    #[test]
    fn rows_are_checked() {
        assert!(Vectors::new(vec![1.0; 5], 2).is_err());
        assert!(Vectors::from_rows([vec![1.0, 2.0], vec![1.0]]).is_err());
        let x = Vectors::from_rows([[3.0, 4.0], [0.0, 0.0], [f32::NAN, 1.0]]).unwrap();
        assert_eq!((x.unit().row(0), x.unit().row(1)), (&[0.6, 0.8][..], &[0.0, 0.0][..]));
        assert!(x.is_finite(0) && !x.is_finite(2));
        assert_eq!(x.select(&[1, 0]).values(), [0.0, 0.0, 3.0, 4.0]);
    }
}
