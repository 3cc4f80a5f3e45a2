//! `--precision`: what the command and the service answer in 8 and 16 bits.

use std::fs;
use std::path::Path;

use medst_infer::eval::Vectors;
use medst_model::model::multiplies_in_int8;
use serde_json::Value;

use super::command::run;
use super::serve;
use super::serve::client::{Body, Client};

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Embeddings of the shipped model are almost the same in every number format, and the service's
/// are the command's.
pub fn agree(at: &Path) {
    let image = &super::frontals(at)[0];
    let command = |format: &str, code: i32| {
        let embed = ["-q", "embed", image, "--model", "phantom", "--precision", format, "--out", "format.npy"];
        let (_, err) = run(at, &embed, code);
        match code {
            0 => Ok(Vectors::read_npy(&at.join("format.npy")).unwrap().row(0).to_vec()),
            _ => Err(err),
        }
    };
    let exact = command("float32", 0).unwrap();
    let mut formats = vec!["bfloat16"];
    if multiplies_in_int8() {
        formats.push("int8");
    } else {
        let refused = command("int8", 2).unwrap_err();
        assert!(refused.contains("int8 needs a processor with VNNI"), "{refused}");
    }
    for format in formats {
        let found = command(format, 0).unwrap();
        let near = cosine(&found, &exact);
        assert!(near > 0.999 && near < 0.999_999_9, "{format}: {near}");
        let served = served(at, image, format);
        assert!(cosine(&served, &found) > 0.999_99, "{format}: {served:?} {found:?}");
    }
}

fn served(at: &Path, image: &str, format: &str) -> Vec<f32> {
    let arguments = ["--model", "phantom", "--precision", format, "--no-token"];
    let (mut serving, _lines, address) = serve::start(at, &arguments);
    let mut client = Client::new(address);
    let form = Body::parts(&[("frontal", &fs::read(at.join(image)).unwrap(), true)]);
    let answer = client.post("/v1/embed", &form).unwrap();
    let value: Value = serde_json::from_slice(&answer.body).unwrap();
    serving.kill().unwrap();
    serving.wait().unwrap();
    let numbers = value["studies"][0]["image"].as_array().unwrap_or_else(|| panic!("{value}"));
    numbers.iter().map(|number| number.as_f64().unwrap() as f32).collect()
}
