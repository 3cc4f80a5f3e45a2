//! The report as Markdown.

use std::fmt::Write;

use super::Evaluation;
use crate::eval::result::{Figure, TaskResult};

/// All figures as tables.
pub fn render(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    write(evaluation, &mut text).expect("writing to a string cannot fail");
    text
}

fn write(evaluation: &Evaluation, out: &mut String) -> std::fmt::Result {
    writeln!(out, "# Evaluation of {}\n", evaluation.encoder.name)?;
    for (name, value) in &evaluation.encoder.properties {
        writeln!(out, "* {name}: {}", escape(value))?;
    }
    writeln!(out, "* protocol: {}", evaluation.protocol.name())?;
    writeln!(out, "* at: {} UTC", evaluation.at)?;
    writeln!(out, "* with: {}, {}", evaluation.program, evaluation.engine)?;
    writeln!(out, "\n    {}\n", evaluation.command_line())?;
    writeln!(out, "{}\n", super::READING.join(" "))?;
    for corpus in &evaluation.corpora {
        let data = &corpus.data;
        writeln!(out, "## {} ({})\n", data.path.display(), data.source)?;
        writeln!(
            out,
            "{} studies of {} subjects, {} with a report, {} with a lateral view. Evaluated: {}. Fingerprint `{}`.\n",
            data.studies, data.subjects, data.with_report, data.with_lateral, data.part, data.fingerprint
        )?;
        for task in &corpus.tasks {
            let (title, rows, subjects) = (task.task.title(), task.rows, task.subjects);
            writeln!(out, "### {title}\n\n{}. {rows} rows of {subjects} subjects.\n", task.method)?;
            writeln!(out, "| of | figure | value (95 % interval) | chance | rows | as published |")?;
            writeln!(out, "|---|---|---|---|---|---|")?;
            task.figures.iter().try_for_each(|figure| row(figure, out))?;
            writeln!(out)?;
            subgroups(task, out)?;
            for (reason, count) in &task.skipped {
                writeln!(out, "* skipped {count}: {}", escape(reason))?;
            }
            for note in &task.notes {
                writeln!(out, "* {}", escape(note))?;
            }
            writeln!(out)?;
        }
        for refused in &corpus.refused {
            writeln!(out, "* not evaluated: {}: {}", refused.task.title(), escape(&refused.reason))?;
        }
        writeln!(out)?;
    }
    writeln!(out, "## Checksums\n")?;
    for (path, checksum) in &evaluation.encoder.files {
        writeln!(out, "* `{path}` {checksum}")?;
    }
    Ok(())
}

/// A table for each column.
fn subgroups(task: &TaskResult, out: &mut String) -> std::fmt::Result {
    let columns = task.figures.iter().find(|figure| !figure.by.is_empty()).map_or(0, |figure| figure.by.len());
    for column in 0..columns {
        let broken_down = task.figures.iter().filter_map(|figure| Some((figure, figure.by.get(column)?)));
        for (index, (figure, breakdown)) in broken_down.enumerate() {
            if index == 0 {
                writeln!(out, "{}\n", super::SUBGROUPS)?;
                let column = escape(&breakdown.column);
                writeln!(
                    out,
                    "| of | figure | {column} | value (95 % interval) | rows | subjects |\n|---|---|---|---|---|---|"
                )?;
            }
            let [group, name] = [&figure.group, &figure.name].map(|cell| escape(cell));
            for part in &breakdown.parts {
                let value =
                    part.value.map_or("undefined".into(), |value| figure.unit.with_interval(value, part.interval));
                let small = if part.small { " (small group)" } else { "" };
                let (value_of, rows, subjects) = (escape(&part.name), part.rows, part.subjects);
                writeln!(out, "| {group} | {name} | {value_of}{small} | {value} | {rows} | {subjects} |")?;
            }
            if let Some(gap) = &breakdown.gap {
                writeln!(out, "| {group} | {name} | largest gap | {} | | |", escape(&gap.text(figure.unit)))?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn row(figure: &Figure, out: &mut String) -> std::fmt::Result {
    let chance = figure.chance.map_or(String::new(), |chance| figure.unit.text(chance));
    let published: Vec<String> = figure
        .published
        .iter()
        .map(|published| {
            format!("{} {} ({}; as published)", figure.unit.text(published.value), published.model, published.on)
        })
        .collect();
    let [group, name, value] = [&figure.group, &figure.name, &figure.text()].map(|cell| escape(cell));
    writeln!(out, "| {group} | {name} | {value} | {chance} | {} | {} |", figure.rows, published.join("; "))
}

/// Without what would end a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
