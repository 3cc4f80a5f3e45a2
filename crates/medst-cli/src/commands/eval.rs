//! `medst eval`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use medst_data::corpus::Corpus;
use medst_data::files::whole;
use medst_infer::eval::encode::{EmbeddingFiles, Encoder, FileEncoder, ModelEncoder};
use medst_infer::eval::report::picture::ExamplePictures;
use medst_infer::eval::report::{Evaluation, Leaderboard, picture};
use medst_infer::eval::result::Task;
use medst_infer::eval::suite::Suite;
use medst_infer::stats::bootstrap::Bootstrap;

use super::{Output, open};
use crate::args::{AskedTask, Eval};
use crate::progress::Reporter;

pub fn run(arguments: &Eval, output: &Output, reporter: &Reporter) -> Result<()> {
    let corpora: Vec<Corpus> = arguments.corpus.iter().map(|path| Corpus::open(path)).collect::<Result<_, _>>()?;
    let suite = suite(arguments);
    let files = embedding_files(arguments)?;
    let mut done: Vec<(Evaluation, Vec<ExamplePictures>)> = Vec::new();
    for model in &arguments.model {
        let engine = open::engine(model, &arguments.how)?;
        let encoder = ModelEncoder::from(&engine);
        done.push(evaluate(arguments, &suite, &encoder, &corpora, output, reporter)?);
    }
    for files in &files {
        done.push(evaluate(arguments, &suite, &FileEncoder::open(files)?, &corpora, output, reporter)?);
    }
    if done.is_empty() {
        return list_texts(arguments, &suite, &corpora);
    }
    let (mut evaluations, pictures): (Vec<Evaluation>, Vec<Vec<ExamplePictures>>) = done.into_iter().unzip();
    let page = if evaluations.len() == 1 {
        let evaluation = evaluations.remove(0);
        output.show(&evaluation)?;
        arguments.out.as_ref().map(|folder| evaluation.write(folder, &pictures[0]))
    } else {
        let leaderboard = Leaderboard::new(evaluations);
        output.show(&leaderboard)?;
        arguments.out.as_ref().map(|folder| leaderboard.write(folder, &pictures))
    };
    match page {
        Some(page) => output.next(&[format!("open {}", page?.display())]),
        None => Ok(()),
    }
}

fn suite(arguments: &Eval) -> Suite {
    let named = |task: &AskedTask| match task {
        AskedTask::All => None,
        AskedTask::One(task) => Some(*task),
    };
    let mut tasks: Vec<Task> = arguments.tasks.iter().filter_map(named).collect();
    if arguments.tasks.contains(&AskedTask::All) {
        tasks.clear();
    }
    tasks.sort();
    tasks.dedup();
    Suite {
        tasks,
        protocol: arguments.protocol,
        bootstrap: Bootstrap { replicates: arguments.replicates as usize, seed: arguments.seed },
        part: arguments.split.unwrap_or_default(),
        label: arguments.label.clone(),
        by: arguments.by.clone(),
    }
}

/// The files of each encoder.
fn embedding_files(arguments: &Eval) -> Result<Vec<EmbeddingFiles>> {
    let count = arguments.embeddings.len();
    for (name, files) in
        [("report-embeddings", &arguments.report_embeddings), ("text-embeddings", &arguments.text_embeddings)]
    {
        if !files.is_empty() && files.len() != count {
            bail!("--{name} is given {} times and --embeddings {count} times; give one for each, or none", files.len());
        }
    }
    let of = |(number, studies): (usize, &PathBuf)| EmbeddingFiles {
        studies: studies.clone(),
        reports: arguments.report_embeddings.get(number).cloned(),
        texts: arguments.text_embeddings.get(number).cloned(),
        text_list: arguments.list_texts.clone(),
    };
    Ok(arguments.embeddings.iter().enumerate().map(of).collect())
}

/// An encoder's evaluation, with the pictures of its report.
fn evaluate(
    arguments: &Eval,
    suite: &Suite,
    encoder: &dyn Encoder,
    corpora: &[Corpus],
    output: &Output,
    reporter: &Reporter,
) -> Result<(Evaluation, Vec<ExamplePictures>)> {
    let results = suite.run(encoder, corpora, reporter)?;
    let pictures = match (&arguments.out, arguments.no_pictures) {
        (Some(_), false) => {
            let drawn = results.iter().zip(corpora).map(|(result, corpus)| picture::draw(result, corpus, encoder));
            drawn.collect::<Result<_, _>>()?
        }
        _ => Vec::new(),
    };
    let evaluation = Evaluation::new(output.command(), encoder.origin(), suite.protocol, suite.bootstrap, results);
    Ok((evaluation, pictures))
}

/// Writes the texts that another program must embed for the tasks.
fn list_texts(arguments: &Eval, suite: &Suite, corpora: &[Corpus]) -> Result<()> {
    let path = arguments.list_texts.as_ref().context("one of --model, --embeddings and --list-texts is required")?;
    let lines = suite.texts(corpora).join("\n") + "\n";
    Ok(whole::write(path, lines.as_bytes())?)
}
