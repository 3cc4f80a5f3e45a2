//! Writes where libtorch is, as seen from the installed module: `site-packages/torch/lib` from
//! `site-packages/medst/`. It is the one that `import torch` loads, so that both compute with the
//! same library.

fn main() {
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../torch/lib");
}
