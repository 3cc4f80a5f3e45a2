//! Decoding and resizing, within one grey level.

use medst_data::image::{decode, resize, scale_by_maximum};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{folder, shared};

#[test]
fn pictures_agree_within_one_grey_level() {
    let expected = std::fs::read(folder().join("image_expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let rows: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(folder().join("image.json")).unwrap()).unwrap();
    let (mut compared, mut skipped) = (0, 0);
    for row in &rows {
        let name = row["name"].as_str().unwrap();
        let path = match (row["file"].as_str(), row["source"].as_str()) {
            (Some(file), _) => Some(folder().join(file)),
            (None, Some(source)) => shared(source),
            _ => panic!("{name} names no file"),
        };
        let Some(path) = path else {
            println!("skipped: {name} ({} is not here)", row["source"]);
            skipped += 1;
            continue;
        };
        let square = resize::to_square(&decode::decode(&std::fs::read(&path).unwrap()).unwrap(), 256);
        if row["error"] == true {
            assert!(square.is_err(), "{name} must be an error");
        } else {
            let expected = expected.tensor(name).unwrap();
            let worst = square.unwrap().iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(worst <= Some(1), "{name}: off by {worst:?} grey levels");
        }
        compared += 1;
    }
    println!("{compared} pictures compared, {skipped} skipped");
    assert!(compared > 0);
}

#[test]
fn deep_pictures_are_scaled_as_the_reference_does() {
    let bytes = std::fs::read(folder().join("image_expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let input = tensors.tensor("scale16.input").unwrap();
    let values: Vec<i32> = input.data().chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
    for (name, monochrome1) in [("scale16.monochrome1", true), ("scale16.monochrome2", false)] {
        let expected = tensors.tensor(name).unwrap();
        let found = scale_by_maximum(&values, monochrome1);
        let worst = found.iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst <= Some(1), "{name}: off by {worst:?} grey levels");
    }
}
