//! A model as graphs for ONNX Runtime, OpenVINO and other programs that run ONNX: standard
//! operators of opset 17, batches of any size.
//!
//! | file | what |
//! |---|---|
//! | [`proto`] | the file format |
//! | [`graph`] | layers as operators |
//! | [`image`], [`text`], [`ground`], [`head`] | the graphs |
//!
//! A graph computes the same as `embed`; `tools/onnx_check.sh` checks this with ONNX Runtime.

pub mod graph;
pub mod ground;
pub mod head;
pub mod image;
pub mod proto;
pub mod text;

use std::path::Path;

use medst_data::report::WordPiece;
use serde_json::{Map, Value, json};

use self::graph::{Graph, Weights};
use self::image::Views;
use self::proto::{Axis, Model, OPSET, Port};
use super::fill::Filled;
use super::transformers::write_vocabulary;
use crate::model::MedSt;
use crate::model::card::{ModelCard, VOCABULARY};
use crate::model::config::{Lateral, ModelConfig};
use crate::model::group::Group;
use crate::model::head::HeadTask;
use crate::{Error, Result};

/// File that describes the inputs and outputs of the graphs, and how pictures and texts are
/// prepared for them.
pub const GRAPHS: &str = "graphs.json";
pub const IMAGE: &str = "image.onnx";
pub const IMAGES: &str = "image_lateral.onnx";
pub const TEXT: &str = "text.onnx";
pub const GROUND: &str = "ground.onnx";
pub const CHANGE: &str = "change.onnx";

const FORMAT: &str = "medst-onnx";
const VERSION: u32 = 1;

/// Writes the graphs whose weights came from a file; random projections would give embeddings that
/// mean nothing. Returns what was left out, and why.
///
/// # Errors
/// Weights for no graph at all; a graph above 2 GiB; a file that cannot be written.
pub fn write(
    folder: &Path,
    model: &MedSt,
    card: &ModelCard,
    pieces: &WordPiece,
    filled: &Filled,
    int8: bool,
) -> Result<Vec<String>> {
    let (config, weights) = (&model.config, Weights::new(model));
    let lacking = |groups: &[Group]| -> Vec<&str> {
        groups.iter().filter(|group| !filled.has(**group)).map(|group| group.label()).collect()
    };
    let of_image = lacking(&[Group::ImageEncoder, Group::ImageGlobal, Group::PatchLocal]);
    let of_text = lacking(&[Group::ReportEncoder, Group::ReportGlobal, Group::WordLocal]);
    if !of_image.is_empty() && !of_text.is_empty() {
        return Err(Error::Input(format!(
            "--to onnx writes what maps images or texts to embeddings, but the weights have neither: for images they lack the {}; for \
             texts they lack the {}. Train a model from them first (medst pretrain, init.weights)",
            of_image.join(", the "),
            of_text.join(", the ")
        )));
    }
    let head = config.head.as_ref().filter(|_| of_image.is_empty() && filled.has(Group::TaskHead));
    let (of_changes, of_studies) =
        (head.filter(|head| head.task == HeadTask::Change), head.filter(|head| head.task != HeadTask::Change));
    // The card must not promise readers a head that no graph has.
    let card = &ModelCard { model: ModelConfig { head: head.cloned(), ..card.model.clone() }, ..card.clone() };
    let (mut notes, mut graphs) = (Vec::new(), Map::new());
    let mut save = |name: &str, graph: Graph| -> Result<()> {
        let model = Model { metadata: card.metadata().into_iter().collect(), ..graph.finish() };
        model.save(&folder.join(name))?;
        graphs.insert(name.into(), described(&model));
        Ok(())
    };
    if of_image.is_empty() {
        let mut graph = Graph::new("image", "embeddings of frontal radiographs and their patches", &weights, int8);
        image::build(&mut graph, config, Views::Frontal, of_studies);
        save(IMAGE, graph)?;
        if config.lateral == Lateral::Ignored {
            notes.push(format!("{IMAGES} left out: the model ignores lateral views (model.lateral = \"ignored\")"));
        } else {
            let description = "embeddings of studies with a frontal and a lateral radiograph, and their patches";
            let mut graph = Graph::new("image_lateral", description, &weights, int8);
            image::build(&mut graph, config, Views::Both, of_studies);
            save(IMAGES, graph)?;
        }
        if let Some(head) = of_changes {
            let mut graph = Graph::new("change", "what has changed between two studies", &weights, int8);
            head::build(&mut graph, head, config.image.hidden_size);
            save(CHANGE, graph)?;
        }
    } else {
        notes.push(format!("{IMAGE} and {IMAGES} left out: no file has the {}", of_image.join(", the ")));
    }
    if of_text.is_empty() {
        let mut graph = Graph::new("text", "embeddings of texts and their words", &weights, int8);
        text::build(&mut graph, config, pieces);
        save(TEXT, graph)?;
        write_vocabulary(&folder.join(VOCABULARY), pieces)?;
    } else {
        notes.push(format!("{TEXT} left out: no file has the {}", of_text.join(", the ")));
    }
    if of_image.is_empty() && of_text.is_empty() {
        let mut graph = Graph::new("ground", "where patches resemble texts", &weights, int8);
        ground::build(&mut graph, config);
        save(GROUND, graph)?;
    }
    let text = description(config, card, pieces, int8, graphs);
    let path = folder.join(GRAPHS);
    std::fs::write(&path, format!("{text:#}\n")).map_err(Error::io(&path))?;
    Ok(notes)
}

/// `graphs.json`.
fn description(
    config: &ModelConfig,
    card: &ModelCard,
    pieces: &WordPiece,
    int8: bool,
    graphs: Map<String, Value>,
) -> Value {
    let id = |piece: &str| (0..pieces.size() as u32).find(|&id| pieces.piece(id) == Some(piece));
    let size = config.image.size;
    let images = json!({
        "size": size,
        "resize_longest_side": card.stored_side(),
        "interpolation": "area average when shrinking (OpenCV's INTER_AREA)",
        "pad": "to a square of that side with 0, centred (the odd row or column below or to the right)",
        "crop": "the middle size × size pixels",
        "channels": 1,
        "pixels": "uint8, black 0, white 255; DICOM files with their window and MONOCHROME1 inverted",
        "normalisation": "in the graph: (pixel / 255 - mean) / std",
        "mean": 0.5,
        "std": 0.5,
    });
    let texts = json!({
        "clean": "lower case; runs of letters, digits and _ (and numbers such as 1.5) separated by single spaces; other characters dropped",
        "tokenizer": "BERT's WordPiece, case kept (BertTokenizer with do_lower_case = false)",
        "vocabulary": VOCABULARY,
        "vocabulary_sha256": pieces.checksum(),
        "max_tokens": config.text.max_tokens,
        "pad_id": 0,
        "unknown_id": id("[UNK]"),
        "classifier_id": pieces.classifier(),
        "separator_id": pieces.separator(),
    });
    let head = card.model.head.as_ref().map(
        |head| json!({ "task": head.task, "labels": head.labels, "classes": head.classes, "outputs": head.names() }),
    );
    json!({
        "format": FORMAT,
        "version": VERSION,
        "opset": OPSET,
        "weights": if int8 { "int8 (encoders, per output channel), float32 (all else)" } else { "float32" },
        "embedding": config.projection.embedding,
        "patches_a_side": config.image.size / config.image.patch,
        "images": images,
        "texts": texts,
        "embeddings": "unit vectors: the cosine of an image_embedding and a text_embedding is their product",
        "head": head,
        "graphs": graphs,
        "card": card,
    })
}

/// Describes the inputs and outputs of a graph.
fn described(model: &Model) -> Value {
    let port = |port: &Port| {
        let axis = |axis: &Axis| match axis {
            Axis::Fixed(size) => json!(size),
            Axis::Any(name) => json!(name),
        };
        let shape: Vec<Value> = port.shape.iter().map(axis).collect();
        (port.name.clone(), json!({ "type": port.element.name(), "shape": shape, "meaning": port.meaning }))
    };
    let ports = |ports: &[Port]| ports.iter().map(port).collect::<Map<String, Value>>();
    json!({ "meaning": model.description, "inputs": ports(&model.inputs), "outputs": ports(&model.outputs) })
}
