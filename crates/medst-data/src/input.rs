//! Opens files that users name.
//!
//! A path may refer to anything: a FIFO without a writer, an endless device, a sparse file of
//! terabytes. Reading one of those would block forever or fill the memory, so only regular files
//! are opened, and whole files are read only up to a limit.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Most bytes of a picture's file. The largest picture that is read (200 million pixels) has 400 MB
/// at 16 bits.
pub const PICTURE: u64 = 1 << 30;
/// Most bytes of a text that is read as a whole: configurations, manifests, vocabularies, lists.
pub const TEXT: u64 = 1 << 28;
/// Most bytes of vectors, of the records of an index, and of weights.
pub const BULK: u64 = 1 << 36;
/// Size in bytes from which a file is checked for holes; smaller ones are read in a moment anyway.
const LARGE: u64 = 1 << 26;
/// A file of which less than one byte in this many is stored counts as sparse.
const SPARSE: u64 = 100;

/// Opens a regular file.
///
/// # Errors
/// A path that is not there or may not be read (as [`File::open`]), what is not a regular file, and
/// a large file of which hardly anything is stored.
pub fn open(path: &Path) -> Result<File> {
    let kind = fs::metadata(path)?.file_type();
    let what = match () {
        () if kind.is_file() => return File::open(path).and_then(refuse_sparse),
        () if kind.is_dir() => return Err(Error::new(ErrorKind::IsADirectory, "is a folder, not a file")),
        () if kind.is_fifo() => "a FIFO (pipe)",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("is {what}, not a regular file")))
}

/// Refuses a large file that consists of holes: reading it takes as long, and as much memory, as if
/// it held something.
///
/// The system is asked where the data are, because some file systems report the number of blocks
/// late or not at all.
fn refuse_sparse(mut file: File) -> Result<File> {
    let length = file.metadata()?.len();
    if length < LARGE {
        return Ok(file);
    }
    let seek = |from: u64, whence| {
        // SAFETY: the descriptor is open; no memory is passed.
        let found = unsafe { libc::lseek(file.as_raw_fd(), from as libc::off_t, whence) };
        u64::try_from(found).map_err(|_| Error::last_os_error())
    };
    let (mut stored, mut at) = (0, 0);
    while stored < length / SPARSE {
        let start = match seek(at, libc::SEEK_DATA) {
            Ok(start) => start,
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                let message = format!("has {length} bytes, but only {stored} of them are stored (a sparse file)");
                return Err(Error::new(ErrorKind::InvalidData, message));
            }
            // A file system that does not report holes.
            Err(_) => break,
        };
        let Ok(end) = seek(start, libc::SEEK_HOLE) else { break };
        (stored, at) = (stored + (end - start), end);
    }
    file.rewind()?;
    Ok(file)
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// Like [`open`]; also a file above the limit.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let too_large = |bytes: &str| {
        Error::new(
            ErrorKind::FileTooLarge,
            format!("has {bytes} bytes; at most {most} of a file of this kind are read"),
        )
    };
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large(&length.to_string()));
    }
    let mut bytes = Vec::with_capacity(length as usize + 1);
    // Files of /proc and the like have bytes though their length is 0, and others may grow.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large("more")) } else { Ok(bytes) }
}

/// Like [`read`], for UTF-8 text.
///
/// # Errors
/// Like [`read`]; also text that is not UTF-8.
pub fn read_to_string(path: &Path, most: u64) -> Result<String> {
    let text = String::from_utf8(read(path, most)?);
    text.map_err(|_| Error::new(ErrorKind::InvalidData, "is not text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn files_of_holes_are_refused_before_they_are_read() {
        use std::io::{Seek, SeekFrom, Write};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let sparse = |name: &str, length: u64, pieces: u64| {
            let mut file = File::create(at(name)).unwrap();
            file.set_len(length).unwrap();
            for piece in 0..pieces {
                file.seek(SeekFrom::Start(piece * (length / pieces))).unwrap();
                file.write_all(&[7; 1 << 20]).unwrap();
            }
            at(name)
        };
        let (bulk, some) = (50 << 30, LARGE);
        for (path, stored) in [(sparse("empty", bulk, 0), "only 0"), (sparse("head", bulk, 1), "only 1048576")] {
            let error = open(&path).unwrap_err().to_string();
            assert!(error.contains("has 53687091200 bytes") && error.contains(stored), "{error}");
        }
        // Holes in a file that also contains data, and small files with any contents.
        for path in [sparse("some", some, 2), sparse("small", some - 1, 0)] {
            let mut start = [1; 4];
            open(&path).unwrap().read_exact(&mut start).unwrap();
            assert!(start == [7; 4] || start == [0; 4]);
        }
    }

    #[test]
    fn only_regular_files_of_sensible_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        let _socket = UnixListener::bind(at("socket")).unwrap();
        File::create(at("giant")).unwrap().set_len(1 << 42).unwrap();
        fs::write(at("text"), "lung").unwrap();
        std::os::unix::fs::symlink(at("fifo"), at("link")).unwrap();
        for (path, words) in [
            (at("fifo"), "FIFO"),
            (at("link"), "FIFO"),
            (at("socket"), "socket"),
            ("/dev/zero".into(), "device"),
            (folder.path().to_path_buf(), "folder"),
            (at("giant"), "4398046511104 bytes"),
        ] {
            let error = read(&path, TEXT).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(read(&at("missing"), TEXT).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(read(&at("text"), 4).unwrap(), b"lung");
        assert!(read(&at("text"), 3).is_err());
        assert!(!read(Path::new("/proc/self/status"), TEXT).unwrap().is_empty());
    }
}
