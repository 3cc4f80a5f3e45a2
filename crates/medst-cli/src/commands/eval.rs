//! `medst eval`.

use anyhow::{Context, Result};
use medst::eval::bootstrap::Bootstrap;
use medst::eval::encode::{EmbeddingFiles, Encoder, FileEncoder, ModelEncoder, Origin};
use medst::eval::report::{Evaluation, picture};
use medst::eval::result::{Protocol, Task};
use medst::eval::suite::Suite;
use medst::train::checkpoint::open_model_in;
use medst_data::corpus::Corpus;

use super::{Output, device, open};
use crate::args::{AskedTask, Eval, ProtocolName};
use crate::progress::Reporter;

pub fn run(arguments: &Eval, output: &Output, reporter: &Reporter) -> Result<()> {
    let corpora: Vec<Corpus> = arguments.corpus.iter().map(|path| Corpus::open(path)).collect::<Result<_, _>>()?;
    let suite = suite(arguments);
    if let Some(files) = embedding_files(arguments) {
        let encoder = FileEncoder::open(&files)?;
        return evaluate(arguments, &suite, &encoder, &corpora, output, reporter);
    }
    if let Some(model) = &arguments.model {
        let device = device(arguments.device)?;
        let opened = open_model_in(model, device, open::precision(arguments.precision))?;
        let encoder = ModelEncoder {
            embedder: opened.embedder(),
            origin: Origin::of_model(&opened)?,
            batch: open::batch(arguments.batch, device),
        };
        return evaluate(arguments, &suite, &encoder, &corpora, output, reporter);
    }
    list_texts(arguments, &suite, &corpora)
}

fn suite(arguments: &Eval) -> Suite {
    let one = |task: &AskedTask| match task {
        AskedTask::All => None,
        AskedTask::One(task) => Some(*task),
    };
    let mut tasks: Vec<Task> = arguments.tasks.iter().filter_map(one).collect();
    if arguments.tasks.contains(&AskedTask::All) {
        tasks.clear();
    }
    tasks.sort();
    tasks.dedup();
    Suite {
        tasks,
        protocol: match arguments.protocol {
            ProtocolName::Strict => Protocol::Strict,
            ProtocolName::Reference => Protocol::Reference,
        },
        bootstrap: Bootstrap { replicates: arguments.replicates as usize, seed: arguments.seed },
        part: arguments.split.unwrap_or_default(),
        label: arguments.label.clone(),
    }
}

fn embedding_files(arguments: &Eval) -> Option<EmbeddingFiles> {
    Some(EmbeddingFiles {
        studies: arguments.embeddings.clone()?,
        reports: arguments.report_embeddings.clone(),
        texts: arguments.text_embeddings.clone(),
        text_list: arguments.list_texts.clone(),
    })
}

fn evaluate(
    arguments: &Eval,
    suite: &Suite,
    encoder: &dyn Encoder,
    corpora: &[Corpus],
    output: &Output,
    reporter: &Reporter,
) -> Result<()> {
    let results = suite.run(encoder, corpora, reporter)?;
    let pictures = match (&arguments.out, arguments.no_pictures) {
        (Some(_), false) => {
            let drawn = results.iter().zip(corpora).map(|(result, corpus)| picture::draw(result, corpus, encoder));
            drawn.collect::<Result<_, _>>()?
        }
        _ => Vec::new(),
    };
    let evaluation = Evaluation::new(output.command(), encoder.origin(), suite.protocol, suite.bootstrap, results);
    output.show(&evaluation)?;
    if let Some(folder) = &arguments.out {
        let page = evaluation.write(folder, &pictures)?;
        output.next(&[format!("open {}", page.display())])?;
    }
    Ok(())
}

/// Writes the texts that another program must embed for the tasks.
fn list_texts(arguments: &Eval, suite: &Suite, corpora: &[Corpus]) -> Result<()> {
    let path = arguments.list_texts.as_ref().context("one of --model, --embeddings and --list-texts is required")?;
    let lines = suite.texts(corpora).join("\n") + "\n";
    std::fs::write(path, lines).with_context(|| path.display().to_string())?;
    Ok(())
}
