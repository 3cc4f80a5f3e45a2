//! The binary as several processes.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Whether several processes can be started here.
pub fn launcher() -> bool {
    let there = Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(there || std::env::var_os("MEDST_NEED_MPI").is_none(), "MEDST_NEED_MPI is set, but mpirun was not found");
    if !there {
        eprintln!("skipped: no mpirun (Debian: openmpi-bin)");
    }
    there
}

/// `medst` in `processes` processes; in one of them without a launcher.
pub fn start(at: &Path, processes: usize, arguments: &[impl AsRef<OsStr>]) -> Child {
    let medst = env!("CARGO_BIN_EXE_medst");
    let mut command = match processes {
        1 => Command::new(medst),
        _ => {
            let mut command = Command::new("mpirun");
            command.args(["--oversubscribe", "-n", &processes.to_string(), medst]);
            command
        }
    };
    command.args(arguments).current_dir(at).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Continuous integration is root in a container.
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"), ("OMP_NUM_THREADS", "1")]);
    command.spawn().unwrap()
}

/// As [`start`], to the end: exit code, standard output and standard error.
pub fn finish(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
