//! Two hosts, each a network namespace, joined by a cable that can be cut (a pair of virtual
//! interfaces). Open MPI starts processes and passes tensors over TCP, as between machines; a
//! script replaces ssh.
//!
//! Needs root and `ip` (Debian: iproute2). Where namespaces cannot be made these tests skip, saying
//! so, unless `MEDST_NEED_NETNS` is set.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::{corpus, difference, done, launcher, lines, pretrain, start};

/// Addresses of the hosts, in a separate network.
const ADDRESSES: [&str; 2] = ["10.93.0.1", "10.93.0.2"];

/// An idle connection between Open MPI's daemons is looked after so often, and given up after 5 + 3
/// · 2 s without an answer.
const KEEP_ALIVE: [&str; 9] = [
    "--mca",
    "oob_tcp_keepalive_time",
    "5",
    "--mca",
    "oob_tcp_keepalive_intvl",
    "2",
    "--mca",
    "oob_tcp_keepalive_probes",
    "3",
];

/// A cut cable ends the job within this.
const STATED: Duration = Duration::from_secs(60);

struct Hosts {
    /// What the namespaces' names begin with.
    prefix: String,
    scripts: tempfile::TempDir,
}

fn ip(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    let said =
        String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr }).into_owned();
    if output.status.success() { Ok(said) } else { Err(format!("ip {}: {said}", arguments.join(" "))) }
}

impl Hosts {
    /// `None`, after printing the reason, if namespaces cannot be made.
    fn make() -> Option<Hosts> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("medst{}-{number}-", std::process::id());
        let hosts = Hosts { prefix, scripts: tempfile::tempdir().unwrap() };
        match hosts.join() {
            Ok(()) => Some(hosts),
            Err(said) => {
                let needed = std::env::var_os("MEDST_NEED_NETNS").is_some();
                assert!(!needed, "MEDST_NEED_NETNS is set, and no network namespaces can be made: {said}");
                eprintln!("skipped: no network namespaces can be made here: {said}");
                None
            }
        }
    }

    fn join(&self) -> Result<(), String> {
        let [a, b] = [0, 1].map(|host| self.namespace(host));
        ip(&["netns", "add", &a])?;
        ip(&["netns", "add", &b])?;
        // Created inside the namespaces, so that the interfaces' names cannot clash with others on
        // this machine.
        ip(&["link", "add", "cable", "netns", &a, "type", "veth", "peer", "name", "cable", "netns", &b])?;
        for (host, address) in ADDRESSES.iter().enumerate() {
            let namespace = self.namespace(host);
            ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "cable"])?;
            ip(&["-n", &namespace, "link", "set", "cable", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        let script = format!(
            "#!/bin/sh\nhost=$1\nshift\nexec ip netns exec {}$host unshare --uts sh -c \"hostname $host; $*\"\n",
            self.prefix
        );
        let path = self.scripts.path().join("instead_of_ssh");
        fs::write(&path, script).map_err(|error| error.to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}{}", self.prefix, ADDRESSES[host])
    }

    /// `medst` in a process on each host.
    fn start(&self, at: &Path, arguments: &[String]) -> Child {
        let hosts = ADDRESSES.map(|address| format!("{address}:1")).join(",");
        let agent = self.scripts.path().join("instead_of_ssh").display().to_string();
        let network = "10.93.0.0/24";
        let of_mpi = [
            ["--mca", "plm_rsh_agent", &agent],
            ["--mca", "btl", "tcp,self"],
            ["--mca", "btl_tcp_if_include", network],
            ["--mca", "oob_tcp_if_include", network],
        ];
        // Each host has a different hostname, by which Open MPI recognises which processes share a
        // machine.
        let named = format!("hostname {}; exec mpirun \"$@\"", ADDRESSES[0]);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(0), "unshare", "--uts", "sh", "-c", &named, "mpirun"]);
        command.args(["-n", "2", "--host", &hosts]).args(of_mpi.concat()).args(KEEP_ALIVE);
        command.arg(env!("CARGO_BIN_EXE_medst")).args(arguments).current_dir(at);
        command.envs([
            ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
            ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
            ("OMP_NUM_THREADS", "1"),
        ]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Bytes that a host has sent over the cable.
    fn sent(&self, host: usize) -> u64 {
        let statistics = ip(&["-n", &self.namespace(host), "-s", "-j", "link", "show", "cable"]).unwrap();
        let statistics: serde_json::Value = serde_json::from_str(&statistics).unwrap();
        statistics[0]["stats64"]["tx"]["bytes"].as_u64().unwrap()
    }

    /// Running processes on a host.
    fn processes(&self, host: usize) -> Vec<String> {
        let all = ip(&["netns", "pids", &self.namespace(host)]).unwrap();
        all.lines().map(str::to_string).collect()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in 0..ADDRESSES.len() {
            if let Ok(left) = ip(&["netns", "pids", &self.namespace(host)]) {
                let _ = Command::new("kill").arg("-9").args(left.lines()).stderr(Stdio::null()).status();
            }
            let _ = ip(&["netns", "del", &self.namespace(host)]);
        }
    }
}

#[test]
fn two_hosts_compute_the_steps_of_one() {
    let Some(hosts) = Some(()).filter(|()| launcher()).and_then(|()| Hosts::make()) else { return };
    let folder = corpus();
    let at = folder.path();
    let settings = ["train.sequences_per_batch=7", "train.max_steps=10", "train.epochs=40"];
    let with = |output: &str| pretrain(&[&settings[..], &[output]].concat(), &[]);
    done(start(at, 1, &with("train.output=one")).wait_with_output().unwrap());
    done(hosts.start(at, &with("train.output=two")).wait_with_output().unwrap());
    for kind in ["train", "validate"] {
        let (one, two) = (lines(&at.join("one"), kind), lines(&at.join("two"), kind));
        assert_eq!(one.len(), two.len());
        assert!(!one.is_empty());
        for (a, b) in one.iter().zip(&two) {
            let off = difference(a, b, |a, b| (a - b).abs());
            assert!(off < 1e-5, "off by {off:e}\n{a}\n{b}");
        }
    }
    // Gradients went over the cable: float64, 8 bytes a parameter and step, each way.
    let parameters: usize = crate::weights(&at.join("two")).iter().map(|(_, tensor)| tensor.numel()).sum();
    for host in 0..2 {
        let sent = hosts.sent(host);
        assert!(sent > 10 * 8 * parameters as u64, "host {host} sent {sent} bytes for {parameters} parameters");
    }
}

#[test]
fn a_cut_cable_ends_the_job_on_both_hosts() {
    let Some(hosts) = Some(()).filter(|()| launcher()).and_then(|()| Hosts::make()) else { return };
    let folder = corpus();
    let at = folder.path();
    let settings = ["train.sequences_per_batch=7", "train.epochs=40", "train.output=run"];
    let child = hosts.start(at, &pretrain(&settings, &[]));
    let begun = Instant::now();
    while !at.join("run/last/model.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!((0..2).all(|host| !hosts.processes(host).is_empty()), "both hosts work");
    ip(&["-n", &hosts.namespace(1), "link", "set", "cable", "down"]).unwrap();
    let cut = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(cut.elapsed() < STATED, "the job went on for {:?}", cut.elapsed());
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("lost communication with a remote daemon") && said.contains(ADDRESSES[1]), "{said}");
    // The other host cannot be notified: it has to notice by itself.
    while (0..2).any(|host| !hosts.processes(host).is_empty()) {
        assert!(cut.elapsed() < STATED, "left on the hosts: {:?}", [0, 1].map(|host| hosts.processes(host)));
        std::thread::sleep(Duration::from_millis(200));
    }
    // One process goes on from what there is.
    done(start(at, 1, &pretrain(&settings, &["--resume"])).wait_with_output().unwrap());
    let steps: Vec<u64> = lines(&at.join("run"), "train").iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<u64>>());
    assert_eq!(steps.len() % 40, 0, "not all epochs");
}
