//! Draws the phantom's contact sheet:
//! `cargo run --release -p medst-data --example phantom_sheet -- FILE.png [SEED]`.

fn main() -> medst_data::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().unwrap_or_else(|| "phantom.png".into());
    let seed = arguments.next().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    medst_phantom::contact_sheet(file.as_ref(), seed)
}
