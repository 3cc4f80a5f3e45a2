//! The build script of every crate with programs (tests, examples, the `medst` binary). Stores the
//! folder of libtorch in the programs, so that they find it without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        // The link `.libtorch` itself, not its current target: the target may change without cargo
        // noticing.
        let lib = std::path::Path::new(&libtorch).join("lib");
        let lib = std::path::absolute(&lib).unwrap_or(lib);
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
