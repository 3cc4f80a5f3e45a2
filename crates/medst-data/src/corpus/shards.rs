//! Image shards: NumPy files of uint8 `[n, side, side]`.
//!
//! The header has a fixed length, so that the number of pictures can be filled in when a shard is
//! closed and pictures are appended without moving anything. In a writer's last, unfinished shard
//! the number is 0 until `join` makes a shard of it.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result, input};

/// Pictures of a full shard.
pub const CAPACITY: usize = 4096;
/// Bytes before the pictures.
pub const HEADER: usize = 128;
/// Prefix of the names of a corpus' shards.
pub const IMAGES: &str = "images";

/// The file name of shard `number`, those of a corpus with [`IMAGES`].
pub fn name(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:05}.npy")
}

/// Version 1.0 of NumPy's format, padded to [`HEADER`] bytes.
pub fn header(count: usize, side: usize) -> Vec<u8> {
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(((HEADER - 10) as u16).to_le_bytes());
    header.extend(format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({count}, {side}, {side}), }}").bytes());
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}

/// Appends pictures to shards in a folder.
#[derive(Debug)]
pub struct ShardWriter {
    folder: PathBuf,
    prefix: String,
    side: usize,
    written: usize,
    open: Option<File>,
}

impl ShardWriter {
    /// Continues after `written` pictures; anything after them (from an interrupted run) is cut
    /// off.
    ///
    /// * `prefix`: of the files' names.
    pub fn new(folder: &Path, prefix: &str, side: usize, written: usize) -> Result<ShardWriter> {
        let (folder, prefix) = (folder.to_path_buf(), prefix.to_string());
        let mut writer = ShardWriter { folder, prefix, side, written, open: None };
        if !written.is_multiple_of(CAPACITY) {
            let path = writer.path();
            let mut file = OpenOptions::new().write(true).open(&path).map_err(Error::io(&path))?;
            let length = (HEADER + (written % CAPACITY) * side * side) as u64;
            file.set_len(length).map_err(Error::io(&path))?;
            file.seek(SeekFrom::End(0)).map_err(Error::io(&path))?;
            writer.open = Some(file);
        }
        Ok(writer)
    }

    /// Appends one picture of `side²` bytes.
    pub fn push(&mut self, picture: &[u8]) -> Result<()> {
        let path = self.path();
        let file = match &mut self.open {
            Some(file) => file,
            none => {
                let mut file = File::create(&path).map_err(Error::io(&path))?;
                file.write_all(&header(0, self.side)).map_err(Error::io(&path))?;
                none.insert(file)
            }
        };
        file.write_all(picture).map_err(Error::io(&path))?;
        self.written += 1;
        if self.written.is_multiple_of(CAPACITY) {
            self.close(CAPACITY)?;
        }
        Ok(())
    }

    /// Pictures written so far, over all shards.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Makes what was pushed durable.
    pub fn sync(&mut self) -> Result<()> {
        match &self.open {
            Some(file) => file.sync_data().map_err(Error::io(&self.folder)),
            None => Ok(()),
        }
    }

    /// The file that the next picture goes to.
    fn path(&self) -> PathBuf {
        self.folder.join(name(&self.prefix, self.written / CAPACITY))
    }

    fn close(&mut self, count: usize) -> Result<()> {
        let Some(mut file) = self.open.take() else { return Ok(()) };
        let header = header(count, self.side);
        let written =
            file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header)).and_then(|()| file.sync_all());
        written.map_err(Error::io(&self.folder))
    }
}

/// A shard whose pictures are read when they are asked for. (Not mapped into memory: a mapped file
/// that another program cuts short ends this one with SIGBUS.)
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    file: File,
    side: usize,
    count: usize,
}

impl Shard {
    /// Opens a shard and checks that its size matches its header.
    ///
    /// # Errors
    /// A file that is cut short or no shard of pictures of that side.
    pub fn open(path: &Path, side: usize) -> Result<Shard> {
        let fail = |message: String| Error::Corpus { path: path.to_path_buf(), message };
        let file = input::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len() as usize;
        let pixels = length.checked_sub(HEADER).ok_or_else(|| fail("the file is truncated".into()))?;
        let count = pixels / (side * side);
        let mut head = [0; HEADER];
        file.read_exact_at(&mut head, 0).map_err(Error::io(path))?;
        if pixels % (side * side) != 0 || head[..] != header(count, side)[..] {
            return Err(fail(format!("the file is truncated or not uint8 [n, {side}, {side}]")));
        }
        Ok(Shard { path: path.to_path_buf(), file, side, count })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Pictures in this shard.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The pixels of a picture, row by row.
    ///
    /// # Errors
    /// A picture past the end, or a file that was truncated in the meantime.
    pub fn picture(&self, index: usize) -> Result<Vec<u8>> {
        let size = self.side * self.side;
        let mut pixels = vec![0; size];
        match self.file.read_exact_at(&mut pixels, (HEADER + index * size) as u64) {
            Ok(()) => Ok(pixels),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                let message = match index < self.count {
                    true => "the file was cut short while it was in use".into(),
                    false => format!("it has no picture {index}"),
                };
                Err(Error::Corpus { path: self.path.clone(), message })
            }
            Err(error) => Err(Error::io(&self.path)(error)),
        }
    }
}
