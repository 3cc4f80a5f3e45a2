//! The files of layouts: tables (gzipped where their name says so), an archive of texts, pictures.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jpeg_encoder::{ColorType, Encoder};

use crate::phantom::cohort::Picture;
use crate::{Error, Result};

/// A table of a layout: its file and its columns.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [&'static str],
}

/// What a layout says of one patient.
#[derive(Debug, Default)]
pub struct Entries {
    /// For each table of the layout its rows.
    pub rows: Vec<Vec<Vec<String>>>,
    /// Name and content of texts that go into the layout's archive.
    pub texts: Vec<(String, String)>,
    /// Lines of the layout's lists: place of the list, line.
    pub lines: Vec<(usize, String)>,
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

/// A table that is being written.
pub struct OpenTable {
    path: PathBuf,
    writer: csv::Writer<Sink>,
}

impl OpenTable {
    pub fn create(folder: &Path, table: Table) -> Result<OpenTable> {
        let path = folder.join(table.name);
        let file = BufWriter::new(File::create(&path).map_err(Error::io(&path))?);
        let sink = match table.name.ends_with(".gz") {
            true => Sink::Gzip(Box::new(GzEncoder::new(file, Compression::default()))),
            false => Sink::Plain(file),
        };
        let mut open = OpenTable { path, writer: csv::Writer::from_writer(sink) };
        open.push(table.columns)?;
        Ok(open)
    }

    pub fn push(&mut self, row: &[impl AsRef<str>]) -> Result<()> {
        let written = self.writer.write_record(row.iter().map(AsRef::as_ref));
        written.map_err(|error| Error::Table { path: self.path.clone(), message: error.to_string() })
    }

    pub fn close(self) -> Result<()> {
        let OpenTable { path, writer } = self;
        let sink = writer.into_inner().map_err(|error| Error::io(&path)(error.into_error()))?;
        sink.finish().map_err(Error::io(&path))
    }
}

/// Writes bytes to a file whose folder may have to be made. One write of a whole file: a buffer flushed on drop would hide
/// that the disk is full.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    fs::write(path, bytes).map_err(Error::io(path))
}

/// A baseline grey JPEG of quality 95.
pub fn jpeg(picture: &Picture) -> Result<Vec<u8>> {
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
pub fn write_png(path: &Path, picture: &Picture) -> Result<()> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let encoded = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&picture.pixels)?;
        writer.finish()
    });
    encoded.map_err(|error| Error::Io { path: path.to_path_buf(), source: std::io::Error::other(error) })?;
    write_file(path, &bytes)
}
