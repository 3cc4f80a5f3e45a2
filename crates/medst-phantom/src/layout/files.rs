//! The files of layouts: tables (gzipped where their name ends in `.gz`), an archive of texts,
//! pictures.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jpeg_encoder::{ColorType, Encoder};
use png::BitDepth;

use crate::cohort::DrawnPicture;
use medst_data::parquet_table::{self, Cells, ColumnType, Field, Writer};
use medst_data::{Error, Result};

/// A table of a layout: its file and its columns.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [&'static str],
}

/// The rows and files of one patient in a layout.
#[derive(Debug, Default)]
pub struct Entries {
    /// For each table of the layout, its rows.
    pub rows: Vec<Vec<Vec<String>>>,
    /// Name and content of texts that go into the layout's archive.
    pub texts: Vec<(String, String)>,
    /// Lines of the layout's lists: place of the list, line.
    pub lines: Vec<(usize, String)>,
    /// Files that go into the layout's tar archive: place and content.
    pub members: Vec<(String, Vec<u8>)>,
    /// Pictures that were written.
    pub images: usize,
}

/// A file, gzipped or not.
enum Sink {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Sink::Plain(file) => file.write(bytes),
            Sink::Gzip(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Sink::Plain(file) => file.flush(),
            Sink::Gzip(file) => file.flush(),
        }
    }
}

impl Sink {
    /// Writes everything, the end of a gzip stream too.
    fn finish(self) -> std::io::Result<()> {
        match self {
            Sink::Plain(mut file) => file.flush(),
            Sink::Gzip(file) => file.finish()?.flush(),
        }
    }
}

/// A table that is being written: CSV, separated by tabs where its name ends in `.txt`, or Parquet.
pub struct OpenTable {
    path: PathBuf,
    to: To,
}

enum To {
    Text(Box<csv::Writer<Sink>>),
    /// Columns, rows.
    Parquet(&'static [&'static str], Vec<Vec<String>>),
}

impl OpenTable {
    pub fn create(folder: &Path, table: Table) -> Result<OpenTable> {
        let path = folder.join(table.name);
        if table.name.ends_with(".parquet") {
            return Ok(OpenTable { path, to: To::Parquet(table.columns, Vec::new()) });
        }
        create_parent(&path)?;
        let file = BufWriter::new(File::create(&path).map_err(Error::io(&path))?);
        let sink = match table.name.ends_with(".gz") {
            true => Sink::Gzip(Box::new(GzEncoder::new(file, Compression::default()))),
            false => Sink::Plain(file),
        };
        let separator = if table.name.ends_with(".txt") { b'\t' } else { b',' };
        let writer = csv::WriterBuilder::new().delimiter(separator).from_writer(sink);
        let mut open = OpenTable { path, to: To::Text(Box::new(writer)) };
        open.push(table.columns)?;
        Ok(open)
    }

    pub fn push(&mut self, row: &[impl AsRef<str>]) -> Result<()> {
        match &mut self.to {
            To::Text(writer) => {
                let written = writer.write_record(row.iter().map(AsRef::as_ref));
                written.map_err(|error| Error::Table { path: self.path.clone(), message: error.to_string() })
            }
            To::Parquet(_, rows) => {
                rows.push(row.iter().map(|cell| cell.as_ref().to_string()).collect());
                Ok(())
            }
        }
    }

    pub fn close(self) -> Result<()> {
        let OpenTable { path, to } = self;
        match to {
            To::Text(writer) => {
                let sink = writer.into_inner().map_err(|error| Error::io(&path)(error.into_error()))?;
                sink.finish().map_err(Error::io(&path))
            }
            To::Parquet(columns, rows) => {
                let written = parquet(columns, &rows);
                let fail =
                    |error: parquet_table::Error| Error::Table { path: path.clone(), message: error.to_string() };
                write_file(&path, &written.map_err(fail)?)
            }
        }
    }
}

/// A Parquet table of texts.
fn parquet(columns: &[&str], rows: &[Vec<String>]) -> parquet_table::Result<Vec<u8>> {
    let fields: Vec<Field<'_>> = columns.iter().map(|name| Field::required(name, ColumnType::Text)).collect();
    let cells = |place: usize| Cells::Text(rows.iter().map(|row| Some(row[place].as_str())).collect());
    let mut writer = Writer::new(Vec::new(), &fields, false)?;
    writer.write(&(0..columns.len()).map(cells).collect::<Vec<_>>())?;
    writer.finish()
}

/// A tar archive packed by zstd and cut into parts.
pub struct Tar(tar::Builder<zstd::stream::write::Encoder<'static, Parts>>);

/// Files `STEM00`, `STEM01`, … of a size.
struct Parts {
    stem: PathBuf,
    size: u64,
    number: usize,
    left: u64,
    file: Option<File>,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.left == 0 || self.file.is_none() {
            let path = format!("{}{:02}", self.stem.display(), self.number);
            self.file = Some(File::create(path)?);
            (self.number, self.left) = (self.number + 1, self.size);
        }
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let written = self.file.as_mut().map_or(Ok(0), |file| file.write(&bytes[..count]))?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::flush)
    }
}

impl Tar {
    pub fn create(folder: &Path, stem: &str, size: u64) -> Result<Tar> {
        let stem = folder.join(stem);
        let parts = Parts { stem: stem.clone(), size, number: 0, left: 0, file: None };
        let packed = zstd::stream::write::Encoder::new(parts, 1).map_err(Error::io(&stem))?;
        Ok(Tar(tar::Builder::new(packed)))
    }

    /// Without times and owners: the same cohort has the same bytes.
    pub fn push(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.0.append_data(&mut header, name, bytes).map_err(Error::io(name))
    }

    pub fn close(self) -> Result<()> {
        let closed = self.0.into_inner().and_then(|packed| packed.finish()).and_then(|mut parts| parts.flush());
        closed.map_err(Error::io("tar archive"))
    }
}

/// Makes the folder of a file.
pub fn create_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), |folder| fs::create_dir_all(folder).map_err(Error::io(folder)))
}

/// Writes bytes to a file whose folder may have to be made. One write of a whole file: a buffer
/// flushed on drop would hide that the disk is full.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    create_parent(path)?;
    fs::write(path, bytes).map_err(Error::io(path))
}

/// A baseline grey JPEG of quality 95.
pub fn jpeg(picture: &DrawnPicture) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let size = |side: usize| u16::try_from(side).unwrap_or(u16::MAX);
    let encoded = Encoder::new(&mut bytes, 95).encode(
        &picture.pixels,
        size(picture.width),
        size(picture.height),
        ColorType::Luma,
    );
    encoded.map_err(|error| Error::Usage(format!("an image could not be encoded: {error}")))?;
    Ok(bytes)
}

/// Writes an 8-bit grey PNG.
///
/// # Errors
/// A file that cannot be created or written to its end.
pub fn write_png(path: &Path, picture: &DrawnPicture) -> Result<()> {
    write_file(path, &png(picture)?)
}

/// An 8-bit grey PNG.
pub fn png(picture: &DrawnPicture) -> Result<Vec<u8>> {
    encode(picture, BitDepth::Eight, &picture.pixels)
}

/// Writes a 16-bit grey PNG whose values fill the lower `bits`.
pub fn write_png16(path: &Path, picture: &DrawnPicture, bits: u32) -> Result<()> {
    let value = |&value: &u8| (u16::from(value) << (bits - 8)).to_be_bytes();
    let samples: Vec<u8> = picture.pixels.iter().flat_map(value).collect();
    write_file(path, &encode(picture, BitDepth::Sixteen, &samples)?)
}

fn encode(picture: &DrawnPicture, depth: BitDepth, samples: &[u8]) -> Result<Vec<u8>> {
    medst_data::image::png::encode(picture.width, picture.height, depth, samples)
        .map_err(|error| Error::Usage(error.to_string()))
}

/// A picture in the middle of a black square.
pub struct Squared {
    pub picture: DrawnPicture,
    /// The offset of the picture in the square.
    pub left: usize,
    pub top: usize,
}

/// Fills a picture up to a square.
pub fn square(picture: &DrawnPicture) -> Squared {
    let side = picture.width.max(picture.height);
    let (left, top) = ((side - picture.width) / 2, (side - picture.height) / 2);
    let mut pixels = vec![0; side * side];
    for (y, row) in picture.pixels.chunks_exact(picture.width).enumerate() {
        let start = (y + top) * side + left;
        pixels[start..start + picture.width].copy_from_slice(row);
    }
    Squared { picture: DrawnPicture { width: side, height: side, pixels, boxes: Vec::new() }, left, top }
}
