//! The decisions of `tools/bootstrap.sh`, with programs in place of python3, pip and nvidia-smi
//! that only record their arguments.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A checkout that contains only the script, with fake programs first on the path. `gpu`: whether
/// nvidia-smi finds a GPU.
struct Checkout(tempfile::TempDir);

const VERSION: &str = include_str!("../../../tools/libtorch.version");

impl Checkout {
    fn new(gpu: bool) -> Checkout {
        let folder = tempfile::tempdir().unwrap();
        let (tools, bin) = (folder.path().join("tools"), folder.path().join("bin"));
        fs::create_dir(&tools).unwrap();
        fs::create_dir(&bin).unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for name in ["bootstrap.sh", "libtorch.txt", "libtorch.version"] {
            fs::copy(repository.join("tools").join(name), tools.join(name)).unwrap();
        }
        let script = |name: &str, text: &str| {
            let path = bin.join(name);
            fs::write(&path, format!("#!/bin/bash\n{text}")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("nvidia-smi", if gpu { "echo 'GPU 0'" } else { "exit 9" });
        script("df", "echo header; echo 'x 0 0 999999 0 x'");
        // `python3 -c` finds no torch; `-m venv` makes an environment whose pip lays down a torch
        // of the pinned version.
        script(
            "python3",
            r#"case "$1 $2" in
"-m venv")
  mkdir -p "$3/bin"
  cat > "$3/bin/python" <<'PIP'
#!/bin/bash
echo "$@" >> pip.log
torch=.venv/lib/python3/site-packages/torch
mkdir -p $torch/lib $torch/include/torch
touch $torch/lib/libtorch_cpu.so
echo "__version__ = '$(cat tools/libtorch.version)+x'" > $torch/version.py
case "$*" in *--no-deps*) ;; *) touch $torch/lib/libtorch_cuda.so ;; esac
PIP
  chmod +x "$3/bin/python" ;;
*) exit 1 ;;
esac
"#,
        );
        Checkout(folder)
    }

    /// Runs the script; returns the arguments of its calls of pip, one line per call.
    fn run(&self, settings: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let at = self.0.path();
        let log = at.join("pip.log");
        let _ = fs::remove_file(&log);
        let path = format!("{}:{}", at.join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg(at.join("tools/bootstrap.sh")).env("PATH", path).env_remove("LIBTORCH").env_remove("CUDA");
        let output = command.envs(settings.iter().copied()).output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_string).collect())
    }

    fn has_cuda(&self) -> bool {
        self.0.path().join(".libtorch/lib/libtorch_cuda.so").exists()
    }
}

#[test]
fn a_machine_without_a_gpu_gets_the_small_build_once() {
    let checkout = Checkout::new(false);
    let installs = checkout.run(&[]).unwrap();
    assert!(installs.len() == 1 && installs[0].contains("--require-hashes --no-deps"), "{installs:?}");
    let packages = fs::read_to_string(checkout.0.path().join(".venv/cpu.txt")).unwrap();
    let named: Vec<&str> = packages.lines().filter(|line| !line.trim_start().starts_with("--hash=")).collect();
    assert!(named.len() == 3 && named[2].starts_with(&format!("torch=={} ", VERSION.trim())), "{packages}");
    assert!(!checkout.has_cuda());
    assert_eq!(checkout.run(&[]).unwrap(), Vec::<String>::new(), "done before");
}

#[test]
fn cuda_is_recognised_asked_for_and_declined() {
    let checkout = Checkout::new(true);
    checkout.run(&[]).unwrap();
    assert!(checkout.has_cuda(), "recognised");
    let checkout = Checkout::new(true);
    checkout.run(&[("CUDA", "0")]).unwrap();
    assert!(!checkout.has_cuda(), "declined");
    assert_eq!(checkout.run(&[("CUDA", "1")]).unwrap().len(), 1, "the small build does not satisfy CUDA=1");
    assert!(checkout.has_cuda());
    assert_eq!(checkout.run(&[("CUDA", "1")]).unwrap().len(), 0, "done before");
}

#[test]
fn a_libtorch_of_another_version_is_refused() {
    let checkout = Checkout::new(false);
    let other = checkout.0.path().join("other");
    fs::create_dir_all(other.join("lib")).unwrap();
    fs::create_dir_all(other.join("include/torch")).unwrap();
    fs::write(other.join("lib/libtorch_cpu.so"), "").unwrap();
    fs::write(other.join("build-version"), "1.0.0+cpu").unwrap();
    let settings = [("LIBTORCH", other.to_str().unwrap())];
    let error = checkout.run(&settings).unwrap_err();
    assert!(error.contains("1.0.0") && error.contains(VERSION.trim()), "{error}");
    fs::write(other.join("build-version"), VERSION).unwrap();
    assert_eq!(checkout.run(&settings).unwrap().len(), 0);
}
