//! A short soak of the real service (`examples/load`, which does it for half an hour): good, bad,
//! oversized and aborted requests, all accounted for.

#[path = "../examples/load/client.rs"]
mod client;
#[path = "../examples/load/soak.rs"]
mod soak;
#[path = "../examples/load/stage.rs"]
mod stage;

#[test]
fn nothing_is_lost_and_nothing_stays() {
    let stage = stage::Stage::new(env!("CARGO_BIN_EXE_medst").into()).unwrap();
    stage.model("small").unwrap();
    // So short a run shows little about memory; the figures in docs/serve.md are from half an hour.
    let options = soak::SoakOptions { seconds: 20.0, rate: 15.0, clients: 8, growth_mib: 64.0 };
    assert!(soak::run(&stage, &options).unwrap());
}
