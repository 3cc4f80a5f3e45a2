//! The build script of every crate with programs (tests, examples, the `medst` binary): writes the folder of libtorch into them, so that
//! nobody has to set `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        // Not where the link `.libtorch` leads today: it may lead elsewhere tomorrow, and cargo would not notice.
        let lib = std::path::Path::new(&libtorch).join("lib");
        let lib = std::path::absolute(&lib).unwrap_or(lib);
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
}
