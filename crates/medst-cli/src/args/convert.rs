//! Weights of other programs, and cards: `convert`, `card`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use medst::convert::Input;

#[derive(Debug, Args)]
pub struct Convert {
    /// Files or folders of weights: a run or model of ours, a checkpoint of the reference implementation or of MGCA, a vision
    /// transformer of timm (DeiT, MAE, DINOv2) or of transformers (ViT, RAD-DINO), a BERT. Several make one model together;
    /// image=FILE and text=FILE take one side of a file.
    #[arg(required = true, value_name = "[image=|text=]FILE")]
    pub inputs: Vec<Input>,
    /// The folder to make; with --to reference the file.
    #[arg(long)]
    pub out: PathBuf,
    /// What to write.
    #[arg(long, value_enum, default_value_t = TargetName::Medst)]
    pub to: TargetName,
    /// Sizes of the model, from a configuration's [model] section [default: read off the files].
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Another size, such as model.image.size=384 or model.text.layers=12; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// The report encoder's word pieces, a vocab.txt or tokenizer.json [default: the one next to the weights, else BERT's
    /// cased vocabulary].
    #[arg(long)]
    pub vocabulary: Option<PathBuf>,
    /// Mean of the pixels, in 0 to 1, that the image encoder was trained with: one value or three [default: as
    /// preprocessor_config.json beside it says, else 0.5].
    #[arg(long, value_name = "R,G,B", requires = "pixel_std", value_parser = channels)]
    pub pixel_mean: Option<Channels>,
    /// Their standard deviation.
    #[arg(long, value_name = "R,G,B", requires = "pixel_mean", value_parser = channels)]
    pub pixel_std: Option<Channels>,
    /// On what terms others may use the weights, written into them.
    #[arg(long)]
    pub licence: Option<String>,
    /// Of the weights that no file has.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Replace what an earlier conversion made.
    #[arg(long)]
    pub overwrite: bool,
    /// Store 16 bits per value (float16), which halves the file. Needs --to medst.
    #[arg(long)]
    pub half: bool,
}

#[derive(Debug, Args)]
pub struct Card {
    /// A run, a model, a checkpoint or a corpus.
    pub path: PathBuf,
    /// Markdown for people, or Croissant 1.0 with its vocabulary for responsible AI (JSON-LD, of a corpus only) for programs.
    #[arg(long, value_enum, default_value_t = CardFormat::Markdown)]
    pub format: CardFormat,
    /// results.json of medst eval, whose figures the card of a model then has.
    #[arg(long)]
    pub evaluation: Option<PathBuf>,
    /// The file to write [default: standard output].
    #[arg(long)]
    pub out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CardFormat {
    Markdown,
    Croissant,
}

/// A value for each colour.
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
    /// A folder of ours.
    Medst,
    /// One file with the reference implementation's names, for torch.load.
    Reference,
    /// A folder whose parts from_pretrained opens.
    Transformers,
}
