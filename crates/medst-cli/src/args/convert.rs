//! Options of `convert` and `card`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use medst_model::weights_input::Input;

#[derive(Debug, Args)]
pub struct Convert {
    /// Files or folders of weights: a run or model of medst, a checkpoint of the reference
    /// implementation or of MGCA, a vision transformer of timm (DeiT, MAE, DINOv2) or of
    /// transformers (ViT, RAD-DINO), or a BERT; or any of these on a model hub, as
    /// hf://OWNER/NAME[@REVISION]. Several are combined into one model. With image=FILE or
    /// text=FILE, only the image or the text encoder of a file is used.
    #[arg(required = true, value_name = "[image=|text=]FILE")]
    pub inputs: Vec<Input>,
    /// Folder to create; with --to reference, the file.
    #[arg(long)]
    pub out: PathBuf,
    /// Format to write.
    #[arg(long, value_enum, default_value_t = TargetName::Medst)]
    pub to: TargetName,
    /// Configuration file whose [model] section gives the sizes of the model [default: inferred
    /// from the weights].
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Override a size, such as model.image.size=384 or model.text.num_layers=12; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Vocabulary of the report encoder, a vocab.txt or tokenizer.json [default: the one next to
    /// the weights, otherwise BERT's cased vocabulary].
    #[arg(long)]
    pub vocabulary: Option<PathBuf>,
    /// Mean of the pixels, in 0 to 1, with which the image encoder was trained: one value or three
    /// [default: from preprocessor_config.json next to the weights, otherwise 0.5].
    #[arg(long, value_name = "R,G,B", requires = "pixel_std", value_parser = channels)]
    pub pixel_mean: Option<Channels>,
    /// Standard deviation of the pixels, like --pixel-mean.
    #[arg(long, value_name = "R,G,B", requires = "pixel_mean", value_parser = channels)]
    pub pixel_std: Option<Channels>,
    /// Licence of the weights, which is stored in the card of the model.
    #[arg(long)]
    pub licence: Option<String>,
    /// Seed of the weights that no input provides; they are initialised at random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Replace the result of an earlier conversion.
    #[arg(long)]
    pub overwrite: bool,
    /// Store 16 bits per value (float16), which halves the file. Requires --to medst or --to hub.
    #[arg(long)]
    pub half: bool,
    /// Store 8 bits per weight of the encoders in ONNX graphs, which then compute in 8 bits
    /// (docs/onnx.md states how much accuracy that costs). Requires --to onnx.
    #[arg(long)]
    pub int8: bool,
}

#[derive(Debug, Args)]
pub struct Card {
    /// A run, model, checkpoint or corpus.
    pub path: PathBuf,
    /// Markdown for people, or Croissant 1.0 with its vocabulary for responsible AI (JSON-LD, for a
    /// corpus only) for programs.
    #[arg(long, value_enum, default_value_t = CardFormat::Markdown)]
    pub format: CardFormat,
    /// results.json of medst eval; the card of a model then includes its figures.
    #[arg(long)]
    pub evaluation: Option<PathBuf>,
    /// File to write [default: standard output].
    #[arg(long)]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CardFormat {
    Markdown,
    Croissant,
}

/// One value per colour channel.
#[derive(Clone, Copy, Debug)]
pub struct Channels(pub [f64; 3]);

fn channels(text: &str) -> Result<Channels, String> {
    let values: Result<Vec<f64>, _> = text.split(',').map(|value| value.trim().parse::<f64>()).collect();
    match values.as_deref() {
        Ok(&[value]) if value.is_finite() => Ok(Channels([value; 3])),
        Ok(&[r, g, b]) if [r, g, b].iter().all(|value| value.is_finite()) => Ok(Channels([r, g, b])),
        _ => Err("expected one number or three, separated by commas".into()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// A model folder of medst.
    Medst,
    /// One file with the reference implementation's names, for torch.load.
    Reference,
    /// A folder whose parts transformers' from_pretrained opens.
    Transformers,
    /// A folder of graphs for ONNX Runtime, OpenVINO and browsers.
    Onnx,
    /// A model folder of medst with a model card (README.md), to be uploaded to a model hub.
    Hub,
}
