//! The page: one file that needs nothing else, readable on paper and in the dark.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::picture::{ExamplePicture, ExamplePictures};
use super::plot;
use super::{Evaluation, READING, SUBGROUPS};
use crate::eval::published::Published;
use crate::eval::result::{Example, ExampleKind, Figure, Plot, TaskResult, Unit};
use crate::eval::suite::CorpusResult;

const STYLE: &str = include_str!("style.css");

/// The head of a page.
pub(super) fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            title { (title) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

pub fn render(evaluation: &Evaluation, pictures: &[ExamplePictures]) -> Markup {
    let none = ExamplePictures::new();
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(&format!("Evaluation of {}", evaluation.encoder.name)))
            body {
                header {
                    h1 { "Evaluation of " (evaluation.encoder.name) }
                    p.lead {
                        (evaluation.protocol.name()) " protocol, " (evaluation.at) " UTC, "
                        (evaluation.program) " with " (evaluation.engine)
                    }
                    dl.facts {
                        @for (name, value) in &evaluation.encoder.properties {
                            div { dt { (name) } dd { (value) } }
                        }
                    }
                }
                (overview(evaluation))
                @for (number, corpus) in evaluation.corpora.iter().enumerate() {
                    (section(number, corpus, pictures.get(number).unwrap_or(&none)))
                }
                footer {
                    h2 { "How this was made" }
                    pre { (evaluation.command_line()) }
                    p {
                        (evaluation.bootstrap.replicates) " bootstrap replicates over subjects, seed "
                        (evaluation.bootstrap.seed) ". " @for line in READING { (line) " " }
                    }
                    table.checksums {
                        tr { th { "file" } th { "SHA-256" } }
                        @for (path, checksum) in &evaluation.encoder.files {
                            tr { td { (path) } td { code { (checksum) } } }
                        }
                        @for corpus in &evaluation.corpora {
                            tr { td { (corpus.data.path.display()) " (fingerprint)" } td { code { (corpus.data.fingerprint) } } }
                        }
                    }
                }
            }
        }
    }
}

fn anchor(corpus: usize, task: &TaskResult) -> String {
    format!("c{corpus}-{}", task.task.name())
}

/// All tasks in one table, with published figures.
fn overview(evaluation: &Evaluation) -> Markup {
    html! {
        section.overview {
            h2 { "Overview" }
            table.figures {
                thead { tr { th { "task" } th { "data" } th { "figure" } th.number { "value" } th { "95 % interval" } th {} th.number { "chance" } th { "as published" } } }
                @for (number, corpus) in evaluation.corpora.iter().enumerate() {
                    @for task in &corpus.tasks {
                        @let figures = task.headlines();
                        tbody {
                            @for (index, figure) in figures.iter().enumerate() {
                                tr {
                                    @if index == 0 {
                                        th rowspan=(figures.len()) { a href=(format!("#{}", anchor(number, task))) { (task.task.title()) } }
                                        td.data rowspan=(figures.len()) {
                                            (short(corpus)) small { (task.rows) " rows, " (task.subjects) " subjects" }
                                        }
                                    }
                                    td { (figure.name) small { (figure.group) } }
                                    (cells(figure))
                                }
                            }
                        }
                    }
                }
            }
            @for corpus in &evaluation.corpora {
                @if !corpus.refused.is_empty() {
                    details.refused {
                        summary { (corpus.refused.len()) " tasks could not be evaluated on " (short(corpus)) }
                        ul {
                            @for refused in &corpus.refused {
                                li { b { (refused.task.title()) } ": " (refused.reason) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The last part of a corpus' path.
fn short(corpus: &CorpusResult) -> String {
    let path = &corpus.data.path;
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Value, interval, drawing, chance and published figures.
fn cells(figure: &Figure) -> Markup {
    let unit = figure.unit;
    html! {
        (value_cells(figure))
        td.number.faint { @if let Some(chance) = figure.chance.filter(|_| figure.value.is_some()) { (unit.text(chance)) @if unit == Unit::Share { " %" } } }
        td.published { @for value in &figure.published { (published(value, unit)) } }
    }
}

/// Value, interval and drawing.
fn value_cells(figure: &Figure) -> Markup {
    let unit = figure.unit;
    html! {
        @match figure.value {
            Some(value) => {
                td.number { b { (unit.text(value)) } @if unit == Unit::Share { " %" } }
                td.interval {
                    @if let Some((low, high)) = figure.interval { (unit.text(low)) " to " (unit.text(high)) }
                }
                td { (plot::interval(figure)) }
            }
            None => td.undefined colspan="3" { "undefined: " (figure.undefined.as_deref().unwrap_or("in this subgroup")) }
        }
    }
}

fn published(published: &Published, unit: Unit) -> Markup {
    html! { div title=(published.on) { (unit.text(published.value)) @if unit == Unit::Share { " %" } small { (published.model) "; " (published.on) "; as published" } } }
}

fn section(number: usize, corpus: &CorpusResult, pictures: &ExamplePictures) -> Markup {
    let data = &corpus.data;
    html! {
        section.corpus {
            h2 { (short(corpus)) small { (data.source) " – " (data.part) } }
            dl.facts {
                div { dt { "studies" } dd { (data.studies) } }
                div { dt { "subjects" } dd { (data.subjects) } }
                div { dt { "with a report" } dd { (data.with_report) } }
                div { dt { "with a lateral view" } dd { (data.with_lateral) } }
                div { dt { "sequences" } dd { (data.sequences) } }
                @for (split, count) in &data.by_split {
                    div { dt { (split) } dd { (count) } }
                }
            }
            @for task in &corpus.tasks { (task_section(&anchor(number, task), task, pictures)) }
        }
    }
}

fn task_section(anchor: &str, task: &TaskResult, pictures: &ExamplePictures) -> Markup {
    let published = task.figures.iter().any(|figure| !figure.published.is_empty());
    html! {
        article id=(anchor) {
            h3 { (task.task.title()) }
            p.method { (task.method) ". " (task.rows) " rows of " (task.subjects) " subjects." }
            table.figures {
                thead { tr {
                    th { "of" } th { "figure" } th.number { "value" } th { "95 % interval" } th {} th.number { "chance" }
                    th { @if published { "as published" } } th.number { "rows" }
                } }
                @for group in task.figures.chunk_by(|a, b| a.group == b.group) {
                    tbody {
                        @for (index, figure) in group.iter().enumerate() {
                            tr {
                                @if index == 0 { th rowspan=(group.len()) { (figure.group) } }
                                td { (figure.name) }
                                (cells(figure))
                                td.number.faint { (figure.rows) }
                            }
                        }
                    }
                }
            }
            (subgroups(task))
            @if !task.skipped.is_empty() || !task.notes.is_empty() {
                ul.notes {
                    @for (reason, count) in &task.skipped { li { b { (count) " skipped: " } (reason) } }
                    @for note in &task.notes { li { (note) } }
                }
            }
            @if !task.plots.is_empty() {
                // Plots of the same kind are next to each other.
                @for kind in [is_roc, is_confusion, is_calibration] {
                    @if task.plots.iter().any(kind) {
                        div.plots { @for plot in task.plots.iter().filter(|plot| kind(plot)) { (plot::draw(plot)) } }
                    }
                }
            }
            @for (kind, title) in [(ExampleKind::Best, "Best cases"), (ExampleKind::Worst, "Worst cases")] {
                @if task.examples.iter().any(|example| example.kind == kind) {
                    h4 { (title) }
                    div.examples {
                        @for example in task.examples.iter().filter(|example| example.kind == kind) { (case(example, pictures)) }
                    }
                }
            }
        }
    }
}

/// The figures of the subgroups, for each column: headline figures first, the others collapsed.
fn subgroups(task: &TaskResult) -> Markup {
    let headlines = task.headlines();
    let is_headline = |figure: &&Figure| headlines.iter().any(|headline| std::ptr::eq(*headline, *figure));
    let columns: Vec<&str> = match task.figures.iter().find(|figure| !figure.by.is_empty()) {
        Some(figure) => figure.by.iter().map(|breakdown| breakdown.column.as_str()).collect(),
        None => return html! {},
    };
    html! {
        @for column in columns {
            @let (first, others): (Vec<&Figure>, Vec<&Figure>) =
                task.figures.iter().filter(|figure| !figure.by.is_empty()).partition(is_headline);
            h4 { "By " (column) }
            p.method { (SUBGROUPS) }
            (by_column(column, &first))
            @if !others.is_empty() {
                details { summary { (others.len()) " other figures by " (column) } (by_column(column, &others)) }
            }
        }
    }
}

/// Subgroups with their intervals on one axis for each figure, and the largest gap.
fn by_column(column: &str, figures: &[&Figure]) -> Markup {
    html! {
        table.figures {
            thead { tr {
                th { "figure" } th { (column) } th.number { "value" } th { "95 % interval" } th {} th.number { "rows" }
                th.number { "subjects" } th {}
            } }
            @for figure in figures {
                @for breakdown in figure.by.iter().filter(|breakdown| breakdown.column == column) {
                    tbody {
                        @for (index, part) in breakdown.parts.iter().enumerate() {
                            @let shown = Figure { value: part.value, interval: part.interval, ..(*figure).clone() };
                            tr {
                                @if index == 0 {
                                    th rowspan=(breakdown.parts.len() + usize::from(breakdown.gap.is_some())) {
                                        (figure.name) small { (figure.group) }
                                    }
                                }
                                td { (part.name) }
                                (value_cells(&shown))
                                td.number.faint { (part.rows) }
                                td.number.faint { (part.subjects) }
                                td.faint { @if part.small { "small group" } }
                            }
                        }
                        @if let Some(gap) = &breakdown.gap {
                            tr { td colspan="7" { "largest gap: " (gap.text(figure.unit)) } }
                        }
                    }
                }
            }
        }
    }
}

fn is_roc(plot: &Plot) -> bool {
    matches!(plot, Plot::Roc { .. })
}

fn is_confusion(plot: &Plot) -> bool {
    matches!(plot, Plot::Confusion { .. })
}

fn is_calibration(plot: &Plot) -> bool {
    matches!(plot, Plot::Calibration { .. })
}

/// Most pictures of a case.
const SHOWN: usize = 4;

fn case(example: &Example, pictures: &ExamplePictures) -> Markup {
    let shown = example.rows.iter().zip(&example.studies).take(SHOWN);
    let found = shown.filter_map(|(&row, study)| Some((study, pictures.get(&(row, example.phrase.clone()))?)));
    let found: Vec<(&String, &ExamplePicture)> = found.collect();
    let heat = found.iter().any(|shown| shown.1.heat.is_some());
    html! {
        figure.case {
            @if !found.is_empty() {
                div.pictures {
                    @for (study, picture) in &found {
                        div {
                            (framed(&picture.plain, study, &example.boxes))
                            @if let Some(heat) = &picture.heat { (framed(heat, &format!("heat map of {study}"), &example.boxes)) }
                            small.study { (study) }
                        }
                    }
                }
            }
            figcaption {
                (example.caption)
                @if let (true, Some(phrase)) = (heat, &example.phrase) { small { "heat: “" (phrase) "”" } }
            }
        }
    }
}

fn framed(address: &str, name: &str, boxes: &[[f64; 4]]) -> Markup {
    html! {
        div.frame {
            img src=(address) alt=(name);
            @if !boxes.is_empty() {
                svg viewBox="0 0 1 1" preserveAspectRatio="none" {
                    @for &[left, top, right, bottom] in boxes {
                        rect x=(left) y=(top) width=(right - left) height=(bottom - top) {}
                    }
                }
            }
        }
    }
}
