//! Which paths lead to one file: `i/a.png`, `./i/a.png` and `i/../i/a.png`, symbolic links, and
//! other cases of letters where the file system ignores case. Hard links count as separate files
//! here: programs that save space make them of any two files with equal content, of different
//! patients too.

use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use crate::storage::Address;

/// Equal for paths of one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FileId {
    /// Device and inode.
    Inode(u64, u64),
    /// For a file with hard links, a missing file, or an object: the normalised path.
    Path(PathBuf),
}

/// The file that each path leads to.
pub fn file_ids(paths: &[&Path]) -> Vec<FileId> {
    paths.par_iter().map(|path| file_id(path)).collect()
}

fn file_id(path: &Path) -> FileId {
    let meta = (!Address::is(path)).then(|| std::fs::metadata(path).ok()).flatten();
    match meta {
        Some(meta) if meta.nlink() == 1 => FileId::Inode(meta.dev(), meta.ino()),
        Some(_) => FileId::Path(std::fs::canonicalize(path).unwrap_or_else(|_| without_detours(path))),
        None => FileId::Path(without_detours(path)),
    }
}

fn without_detours(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match (part, plain.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => _ = plain.pop(),
            _ => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_one_under_any_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("i")).unwrap();
        std::fs::write(at("i/a.png"), "x").unwrap();
        std::fs::write(at("i/b.png"), "x").unwrap();
        std::fs::hard_link(at("i/a.png"), at("hard.png")).unwrap();
        std::os::unix::fs::symlink(at("i/a.png"), at("soft.png")).unwrap();
        let id = |name: &str| file_id(&at(name));
        for same in ["./i/a.png", "i/../i/a.png", "soft.png"] {
            assert_eq!(id("i/a.png"), id(same), "{same}");
            assert_eq!(id("i/b.png"), id(&same.replace('a', "b").replace("soft.png", "i/b.png")), "{same}");
        }
        assert_ne!(id("i/a.png"), id("hard.png"));
        assert_ne!(id("i/a.png"), id("i/b.png"));
        assert_eq!(id("./i/none.png"), id("i/../i/none.png"));
        assert_ne!(id("i/none.png"), id("none.png"));
        assert_eq!(file_id(Path::new("../a")), file_id(Path::new("./../b/../a")));
    }
}
