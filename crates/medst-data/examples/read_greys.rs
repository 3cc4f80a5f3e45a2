//! Reads many radiographs in one process, for comparisons with other programs
//! (`tools/dicom_peer.sh`).
//!
//! ```text
//! read_greys OUT < LIST
//! ```
//!
//! LIST has a path per line. The grey values of the picture of line `n`, counted from 0, go to
//! `OUT/n.grey`, and a line of JSON to the standard output: `{"width":…,"height":…,"notes":[…]}`,
//! or `{"error":…}`; pictures that `--exact` and the fast way of averaging do not agree about have
//! `{"disagreement":…}`.

use std::io::{BufRead, stdin};
use std::path::PathBuf;

use medst_data::image::{Decoding, Notes, load};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: read_greys OUT < LIST")?);
    let exact = Decoding { exact: true, ..Decoding::default() };
    for (number, path) in stdin().lock().lines().enumerate() {
        let bytes = std::fs::read(path?)?;
        let mut notes = Notes::default();
        let read = load::picture_noting(&bytes, exact, &mut notes);
        // A quarter of the longer side: small enough for the fast way.
        let side = read.as_ref().map_or(16, |image| (image.width.max(image.height) / 4).max(1));
        let both = [exact, Decoding::default()].map(|decoding| load::square_of(&bytes, side, decoding));
        let line = match (&read, &both) {
            (_, [exact, fast]) if exact.is_ok() != fast.is_ok() => {
                serde_json::json!({"disagreement": format!("exact: {exact:.80?}; fast: {fast:.80?}")})
            }
            (Ok(image), _) => {
                std::fs::write(out.join(format!("{number}.grey")), &image.pixels)?;
                let notes: Vec<&str> = notes.iter().collect();
                serde_json::json!({"width": image.width, "height": image.height, "notes": notes})
            }
            (Err(error), _) => serde_json::json!({"error": error.to_string()}),
        };
        println!("{line}");
    }
    Ok(())
}
