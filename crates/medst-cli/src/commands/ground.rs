//! `medst ground`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use medst_data::gather::{DeclaredView, check_view};
use medst_data::progress::Progress;
use medst_infer::infer::align::Alignment;
use medst_infer::infer::boxes::hot_boxes;
use medst_infer::infer::draw::{self, Canvas};
use medst_infer::infer::ground::{Grounded, ground};
use medst_infer::infer::{Engine, Views};
use medst_model::Error;
use medst_model::model::view_experts::View;
use serde::Serialize;

use super::{Output, open};
use crate::args::Ground;
use crate::progress::Reporter;

pub fn run(arguments: &Ground, output: &Output, reporter: &Reporter) -> Result<()> {
    let frontal = check_view(&arguments.image, open::view(arguments.view))?;
    if let Some(lateral) = &arguments.lateral {
        if !frontal {
            let image = arguments.image.display();
            return Err(Error::Input(format!(
                "{image} is a lateral view; pass the frontal image first, and its lateral image with --lateral"
            ))
            .into());
        }
        check_view(lateral, DeclaredView::Lateral)?;
    }
    let many = arguments.phrase.len() > 1;
    if many && let Some(out) = arguments.out.as_ref().filter(|out| out.extension().is_some()) {
        return Err(Error::Input(format!("--out {} must be a folder if --phrase is repeated", out.display())).into());
    }
    let engine = open::model(&arguments.model)?;
    let texts = arguments
        .phrase
        .iter()
        .map(|phrase| Ok(engine.reader().prompt(phrase)?))
        .collect::<medst_model::Result<Vec<_>>>()?;
    let mut files = vec![(if frontal { View::Frontal } else { View::Lateral }, &arguments.image)];
    files.extend(arguments.lateral.as_ref().map(|path| (View::Lateral, path)));
    let (views, canvases) = look(&engine, &files)?;
    let alignments = engine.align(&vec![&views; texts.len()], &texts.iter().collect::<Vec<_>>())?;
    let shown: Vec<(View, &Canvas)> = canvases.iter().map(|(view, canvas)| (*view, canvas)).collect();
    let mut all = Vec::new();
    reporter.begin("drawing", Some(alignments.len() as u64));
    for (number, (phrase, alignment)) in arguments.phrase.iter().zip(&alignments).enumerate() {
        let mut grounded = ground(phrase, alignment, &shown, arguments.threshold, arguments.matrices);
        if let Some(out) = &arguments.out {
            let base = if many { out.join(format!("{:02}-{}.png", number + 1, plain(phrase))) } else { out.clone() };
            draw_phrase(&mut grounded, alignment, &canvases, arguments.threshold, &base)?;
        }
        if let Some(folder) = &arguments.word_maps {
            let folder =
                if many { folder.join(format!("{:02}-{}", number + 1, plain(phrase))) } else { folder.clone() };
            draw_words(alignment, &canvases, &folder)?;
        }
        all.push(grounded);
        reporter.advance(1);
    }
    reporter.end();
    output.show(&Phrases { image: arguments.image.clone(), phrases: all })
}

/// Decodes the images, for the model and for drawing.
fn look(engine: &Engine, files: &[(View, &PathBuf)]) -> Result<(Views, Vec<(View, Canvas)>)> {
    let preprocessing = engine.preprocessing();
    let (mut frontal, mut lateral, mut canvases) = (None, None, Vec::new());
    for (view, path) in files {
        let (seen, canvas) = draw::open_seen(path, preprocessing)?;
        match view {
            View::Frontal => frontal = Some(seen),
            View::Lateral => lateral = Some(seen),
        }
        canvases.push((*view, canvas));
    }
    let views = Views::new(frontal, lateral).ok_or_else(|| Error::Input("no image was given".into()))?;
    Ok((views, canvases))
}

fn draw_phrase(
    grounded: &mut Grounded,
    alignment: &Alignment,
    canvases: &[(View, Canvas)],
    threshold: f32,
    path: &Path,
) -> Result<()> {
    make_folder(path.parent())?;
    let patch = alignment.grid.pixels / alignment.grid.side;
    for (number, (view, canvas)) in canvases.iter().enumerate() {
        let Some(map) = alignment.heat(*view) else { continue };
        let path = if number == 0 { path.to_path_buf() } else { suffixed(path, "lateral") };
        draw::write(&path, &canvas.png(&map, &hot_boxes(&map, threshold, patch)))?;
        if let Some(grounded_view) = grounded.views.iter_mut().find(|grounded_view| grounded_view.view == *view) {
            grounded_view.picture = Some(path);
        }
    }
    Ok(())
}

fn draw_words(alignment: &Alignment, canvases: &[(View, Canvas)], folder: &Path) -> Result<()> {
    make_folder(Some(folder))?;
    for (number, word) in alignment.spoken() {
        for (index, (view, canvas)) in canvases.iter().enumerate() {
            let Some(map) = alignment.heat_of(*view, number) else { continue };
            let path = folder.join(format!("{:02}-{}.png", number + 1, plain(word)));
            let path = if index == 0 { path } else { suffixed(&path, "lateral") };
            draw::write(&path, &canvas.png(&map, &[]))?;
        }
    }
    Ok(())
}

fn make_folder(folder: Option<&Path>) -> Result<()> {
    match folder.filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => Ok(fs::create_dir_all(folder).map_err(Error::io(folder))?),
        None => Ok(()),
    }
}

/// Appends a suffix to the name: `a.png` becomes `a-lateral.png`.
fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{stem}-{suffix}.png"))
}

/// A short file name of letters and digits only.
fn plain(text: &str) -> String {
    let name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    name.trim_matches('-').chars().take(40).collect()
}

/// Results of all phrases on an image.
#[derive(Serialize)]
struct Phrases {
    image: PathBuf,
    phrases: Vec<Grounded>,
}

impl fmt::Display for Phrases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.image.display())?;
        self.phrases.iter().try_for_each(|phrase| phrase.fmt(f))
    }
}
