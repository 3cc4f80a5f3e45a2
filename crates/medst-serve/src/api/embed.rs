//! `POST /v1/embed`.

use axum::Json;
use medst_infer::infer::Text;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StudyUpload;
use crate::error::ErrorBody;
use crate::memory::CancellationToken;
use crate::upload::{Upload, UploadedPicture};
use crate::{Error, Result};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedRequest {
    /// Model name [default: the first model].
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    studies: Vec<StudyUpload>,
    /// Sentences to embed, such as prompts.
    #[serde(default)]
    texts: Vec<String>,
    /// Shorthand for a single study.
    #[serde(default)]
    frontal: Option<UploadedPicture>,
    #[serde(default)]
    lateral: Option<UploadedPicture>,
    #[serde(default)]
    report: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Embeddings {
    model: String,
    width: usize,
    studies: Vec<StudyEmbeddings>,
    texts: Vec<Vec<f32>>,
}

#[derive(Serialize, ToSchema)]
pub struct StudyEmbeddings {
    id: Option<String>,
    /// Unit vector; null without an image.
    image: Option<Vec<f32>>,
    /// Unit vector; null without a report.
    report: Option<Vec<f32>>,
    /// Whether the report was cut off at the model's maximum length.
    truncated: bool,
}

/// Embeds the images and reports of studies, and sentences.
#[utoipa::path(post, path = "/v1/embed",
    request_body(content((EmbedRequest = "application/json"), (EmbedRequest = "multipart/form-data"))),
    responses((status = 200, description = "embeddings as unit vectors", body = Embeddings), (status = 400, description = "invalid request; the message states why", body = ErrorBody),
        (status = 401, description = "missing or wrong token"), (status = 413, description = "request exceeds a limit"), (status = 429, description = "too many requests; try again after Retry-After seconds")))]
pub async fn embed(upload: Upload<EmbedRequest>) -> Result<Json<Embeddings>> {
    let request = &upload.request;
    let (name, model) = upload.shared().model(request.model.as_deref())?;
    let mut studies = request.studies.clone();
    let short = StudyUpload {
        id: None,
        frontal: request.frontal.clone(),
        lateral: request.lateral.clone(),
        report: request.report.clone(),
    };
    if short.pictures() > 0 || short.report.is_some() {
        studies.push(short);
    }
    if studies.is_empty() && request.texts.is_empty() {
        return Err(Error::Bad("nothing to embed: give studies or texts".into()));
    }
    let reported = studies.iter().filter(|study| study.report.is_some()).count();
    upload.check_counts(studies.iter().map(StudyUpload::pictures).sum(), request.texts.len() + reported)?;
    // Texts first: they are cheap to refuse.
    let reader = model.worker.reader.clone();
    let sentences = request.texts.clone();
    let written: Vec<Option<String>> = studies.iter().map(|study| study.report.clone()).collect();
    let cut = move |cancellation: &CancellationToken| -> Result<(Vec<Text>, Vec<Option<Text>>)> {
        let prompt = |text: &String| cancellation.check().and_then(|()| Ok(reader.prompt(text)?));
        let report = |(number, text): (usize, &Option<String>)| {
            cancellation.check()?;
            let read = text.as_ref().map(|text| reader.report(text)).transpose();
            read.map_err(|reason| Error::Report(format!("studies.{number}.report: {reason}")))
        };
        Ok((
            sentences.iter().map(prompt).collect::<Result<_>>()?,
            written.iter().enumerate().map(report).collect::<Result<_>>()?,
        ))
    };
    let (prompts, read) = upload.shared().on_core(cut).await?;
    let (mut views, mut reports, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for ((number, study), text) in studies.iter().enumerate().zip(read) {
        let what = format!("studies.{number}.");
        if study.pictures() > 0 {
            views.push(
                upload.views(model.worker.preprocessing, study.frontal.as_ref(), study.lateral.as_ref(), &what).await?,
            );
        } else if text.is_none() {
            return Err(Error::Bad(format!("{what}give an image or a report")));
        }
        answers.push((study.id.clone(), study.pictures() > 0, text.as_ref().map(|text| text.truncated)));
        reports.extend(text);
    }
    let (count, mut texts) = (prompts.len(), prompts);
    texts.extend(reports);
    let (images, vectors) = tokio::try_join!(
        async { if views.is_empty() { Ok(None) } else { model.worker.images(views).await.map(Some) } },
        async { if texts.is_empty() { Ok(None) } else { model.worker.texts(texts).await.map(Some) } },
    )?;
    let rows = |vectors: Option<medst_infer::eval::Vectors>| -> Vec<Vec<f32>> {
        vectors.map(|vectors| vectors.rows().map(<[f32]>::to_vec).collect()).unwrap_or_default()
    };
    let mut texts = rows(vectors);
    let mut reports = texts.split_off(count).into_iter();
    let mut images = rows(images).into_iter();
    let studies = answers.into_iter().map(|(id, seen, truncated)| StudyEmbeddings {
        id,
        image: if seen { images.next() } else { None },
        report: truncated.and_then(|_| reports.next()),
        truncated: truncated.unwrap_or(false),
    });
    Ok(Json(Embeddings { model: name.into(), width: model.width, studies: studies.collect(), texts }))
}
