//! The report as Markdown.

use std::fmt::Write;

use super::Evaluation;
use crate::eval::result::Figure;

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

fn row(figure: &Figure, out: &mut String) -> std::fmt::Result {
    let chance = figure.chance.map_or(String::new(), |chance| figure.unit.text(chance));
    let published: Vec<String> = figure
        .published
        .iter()
        .map(|own| format!("{} {} ({}; as published)", figure.unit.text(own.value), own.model, own.on))
        .collect();
    let [group, name, value] = [&figure.group, &figure.name, &figure.text()].map(|cell| escape(cell));
    writeln!(out, "| {group} | {name} | {value} | {chance} | {} | {} |", figure.rows, published.join("; "))
}

/// Without what would end a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
