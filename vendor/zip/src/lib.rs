//! A stub with the items of the crate `zip` 0.6 that `tch` and `torch-sys` refer to. They use it to
//! read and write `.npz` files and to unpack a libtorch that they download; medst does neither. The
//! real crate brings ciphers, bzip2, a second zstd and a calendar: twenty crates, some of them in
//! C. Here, opening any archive returns an error that explains this.

use std::io::{self, Read, Write};

pub mod result {
    use std::fmt;

    /// An archive was asked for.
    #[derive(Debug)]
    pub struct ZipError;

    impl fmt::Display for ZipError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("this program is built without .npz files")
        }
    }

    impl std::error::Error for ZipError {}
}

pub mod write {
    /// How a file would be stored.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct FileOptions;

    impl FileOptions {
        #[must_use]
        pub fn compression_method(self, _: super::CompressionMethod) -> FileOptions {
            self
        }
    }
}

use result::ZipError;

/// Of a file in an archive.
#[derive(Clone, Copy, Debug)]
pub enum CompressionMethod {
    Stored,
}

/// An archive to read, which cannot be opened.
pub struct ZipArchive<R>(std::marker::PhantomData<R>);

/// A file in an archive; there is none.
pub enum ZipFile {}

impl<R> ZipArchive<R> {
    /// # Errors
    /// Always.
    pub fn new(_: R) -> Result<ZipArchive<R>, ZipError> {
        Err(ZipError)
    }

    pub fn len(&self) -> usize {
        0
    }

    pub fn is_empty(&self) -> bool {
        true
    }

    /// # Errors
    /// Always.
    pub fn by_index(&mut self, _: usize) -> Result<ZipFile, ZipError> {
        Err(ZipError)
    }
}

impl ZipFile {
    pub fn name(&self) -> &str {
        match *self {}
    }

    pub fn mangled_name(&self) -> std::path::PathBuf {
        match *self {}
    }

    pub fn size(&self) -> u64 {
        match *self {}
    }
}

impl Read for ZipFile {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

/// An archive to write, which takes nothing.
pub struct ZipWriter<W>(std::marker::PhantomData<W>);

impl<W> ZipWriter<W> {
    pub fn new(_: W) -> ZipWriter<W> {
        ZipWriter(std::marker::PhantomData)
    }

    /// # Errors
    /// Always.
    pub fn start_file(&mut self, _: impl Into<String>, _: write::FileOptions) -> Result<(), ZipError> {
        Err(ZipError)
    }
}

impl<W> Write for ZipWriter<W> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other(ZipError))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
