//! `medst convert`.

use anyhow::Result;
use medst_data::files::whole;
use medst_model::Error;
use medst_model::convert::vit::Pixels;
use medst_model::convert::{Request, Target, convert};

use super::Output;
use crate::args::{Convert, TargetName};

pub fn run(arguments: &Convert, output: &Output) -> Result<()> {
    let pixels = match (arguments.pixel_mean, arguments.pixel_std) {
        (Some(mean), Some(deviation)) => Some(Pixels { mean: mean.0, deviation: deviation.0 }),
        _ => None,
    };
    if let Some(pixels) = pixels.filter(|pixels| pixels.deviation.iter().any(|&value| value <= 0.0)) {
        return Err(Error::Input(format!("--pixel-std {:?}: must be greater than 0", pixels.deviation)).into());
    }
    if arguments.half && !matches!(arguments.to, TargetName::Medst | TargetName::Hub) {
        return Err(Error::Input("--half needs --to medst or --to hub".into()).into());
    }
    if arguments.int8 && arguments.to != TargetName::Onnx {
        return Err(Error::Input("--int8 needs --to onnx".into()).into());
    }
    let request = Request {
        inputs: arguments.inputs.clone(),
        out: arguments.out.clone(),
        to: match arguments.to {
            TargetName::Medst => Target::Medst,
            TargetName::Reference => Target::Reference,
            TargetName::Transformers => Target::Transformers,
            TargetName::Onnx => Target::Onnx,
            TargetName::Hub => Target::Hub,
        },
        config: arguments.config.clone(),
        overrides: arguments.overrides.clone(),
        vocabulary: arguments.vocabulary.clone(),
        pixels,
        licence: arguments.licence.clone(),
        seed: arguments.seed,
        overwrite: arguments.overwrite,
        half: arguments.half,
        int8: arguments.int8,
    };
    let conversion = convert(&request)?;
    if request.to == Target::Hub {
        // Not covered by the folder's checksums, because its author will edit it further.
        let path = request.out.join("README.md");
        let text = medst_train::card::for_hub(&request.out, &request.inputs)?;
        whole::write(&path, text.as_bytes())?;
    }
    output.show(&conversion)
}
