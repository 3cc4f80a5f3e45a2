//! `medst search`.

use anyhow::Result;
use medst_data::gather::{DeclaredView, check_view};
use medst_infer::infer::search::{self, Among, Filter, Index, Query, WithGraph, together};
use medst_infer::infer::stream::{self, EmbeddingOutputs};
use medst_infer::infer::{Engine, Views};
use medst_model::Error;

use super::{Output, open};
use crate::args::{AmongName, GraphName, Search, SearchFind, SearchIndex};
use crate::progress::Reporter;

pub fn run(arguments: &Search, output: &Output, reporter: &Reporter) -> Result<()> {
    match arguments {
        Search::Index(arguments) => index(arguments, output, reporter),
        Search::Find(arguments) => find(arguments, output),
    }
}

fn index(arguments: &SearchIndex, output: &Output, reporter: &Reporter) -> Result<()> {
    let SearchIndex { inputs, model, out, graph, overwrite } = arguments;
    search::check_target(out, *overwrite)?;
    let (engine, gathered) = open::model_and_inputs(model, inputs)?;
    let outputs = EmbeddingOutputs { images: true, features: false, reports: true };
    let collected = stream::embed(&engine, &gathered, outputs, reporter)?;
    let with_graph = match graph {
        GraphName::Auto => WithGraph::Auto,
        GraphName::Always => WithGraph::Always,
        GraphName::Never => WithGraph::Never,
    };
    let source = open::names(inputs);
    let built = search::build(&engine, &gathered, &collected, source, out, (with_graph, *overwrite), reporter)?;
    output.show(&built)?;
    output.next(&[format!("medst search find {} --text 'pleural effusion'", out.display())])?;
    open::all_used(built.left_out.len(), built.studies)
}

fn find(arguments: &SearchFind, output: &Output) -> Result<()> {
    let index = Index::open(&arguments.index)?;
    let among = match arguments.among {
        AmongName::Images => Among::Images,
        AmongName::Reports => Among::Reports,
    };
    let study_row = arguments.study.as_ref().map(|id| {
        let row = index.find(id);
        row.ok_or_else(|| Error::Input(format!("{} has no study {id}", arguments.index.display())))
    });
    let study_row = study_row.transpose()?;
    // The index contains the embeddings of its studies; only files and texts need the model.
    let engine = match arguments.image.is_some() || arguments.text.is_some() {
        false => None,
        true => {
            let path = arguments.model.as_deref().unwrap_or_else(|| index.model_path());
            let engine = open::load(path, &arguments.how, arguments.dicom.window)?;
            index.check_model(&engine)?;
            Some(engine)
        }
    };
    let image = match (study_row, &engine) {
        (Some(row), _) => {
            let vector = index.vector_of(row, among).map(<[f32]>::to_vec);
            Some(vector.ok_or_else(|| {
                Error::Input("the index has no embedding of this kind for the study; choose another --among".into())
            })?)
        }
        (None, Some(engine)) => image(arguments, engine)?,
        (None, None) => None,
    };
    let text = match (&arguments.text, &engine) {
        (Some(text), Some(engine)) => {
            Some(engine.texts(&[&engine.reader().prompt(text).map_err(medst_model::Error::from)?])?.row(0).to_vec())
        }
        _ => None,
    };
    let vector = together(image.as_deref(), text.as_deref(), arguments.text_share);
    let query = Query {
        vector: vector.ok_or_else(|| Error::Input("give a query with --image, --text or --study".into()))?,
        count: arguments.count as usize,
        among,
        filter: Filter {
            subjects: arguments.subject.clone(),
            not_subjects: arguments.not_subject.clone(),
            from: arguments.from,
            to: arguments.to,
            findings: arguments.finding.clone(),
        },
        exact: arguments.exact,
        not: study_row,
    };
    output.show(&index.search(&query)?)
}

fn image(arguments: &SearchFind, engine: &Engine) -> Result<Option<Vec<f32>>> {
    let Some(path) = &arguments.image else { return Ok(None) };
    let frontal = check_view(path, DeclaredView::Auto)?;
    let picture = Some(engine.preprocessing().open(path)?);
    let lateral = arguments.lateral.as_ref().map(|path| {
        check_view(path, DeclaredView::Lateral)?;
        engine.preprocessing().open(path)
    });
    let lateral = lateral.transpose()?;
    if !frontal && lateral.is_some() {
        return Err(Error::Input(format!(
            "{} is a lateral view, but --image must be frontal when --lateral is given",
            path.display()
        ))
        .into());
    }
    let views = if frontal { Views::new(picture, lateral) } else { Views::new(None, picture) };
    let views = views.ok_or_else(|| Error::Input("no image was given".into()))?;
    Ok(Some(engine.images(&[&views])?.embeddings.row(0).to_vec()))
}
