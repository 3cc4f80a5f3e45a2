//! Compiles `ops/` against libtorch, and writes libtorch's folder into the programs (examples,
//! tests, benches) of this crate, so that they run without `LD_LIBRARY_PATH`. `crates/rpath.rs`
//! does the latter for the other crates.

use std::path::{Path, absolute};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=ops");
    let Ok(libtorch) = std::env::var("LIBTORCH") else { return };
    // Not where the link `.libtorch` leads today: it may lead elsewhere tomorrow, and cargo would
    // not notice.
    let libtorch = absolute(&libtorch).unwrap_or_else(|_| libtorch.into());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", libtorch.join("lib").display());
    compile(&libtorch);
}

/// As the bindings are compiled, which the same objects must fit.
fn compile(libtorch: &Path) {
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .warnings(false)
        // Nothing looks at floating-point exceptions, and loops with conditions are vectorised for
        // AVX2 only without them. No result changes.
        .flag_if_supported("-fno-trapping-math")
        .file("ops/ops.cpp")
        .compile("medst_ops");
}
