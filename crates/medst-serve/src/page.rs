//! The page for people, at `/`: HTML, style and script modules, which are part of the program. It
//! loads nothing from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::state::Shared;
use crate::{Error, Result, auth};

/// The page may run only the scripts and styles of this service, and connect only to it. Pictures
/// are drawn from its answers, not loaded.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        /// Name and content.
        const ASSETS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../page/", $name)))),*];
    };
}

assets![
    "page.css",
    "icon.svg",
    "main.js",
    "api.js",
    "dom.js",
    "findings.js",
    "heat.js",
    "intake.js",
    "layers.js",
    "names.js",
    "phrase.js",
    "report.js",
    "similar.js",
    "store.js",
    "timeline.js",
    "viewer.js",
];

/// The page and its assets; they need no token, because the page itself asks the user for the
/// token.
pub fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/", get(index)).route(
        "/page/{name}",
        get(|Path(name): Path<String>| async move {
            let found = ASSETS.iter().find(|asset| asset.0 == name);
            let found: Result<Response> = found
                .map(|(name, content)| answer(name, content))
                .ok_or_else(|| Error::NotFound("not found; the page is at /".into()));
            found
        }),
    )
}

/// `/`, and `/?token=TOKEN`, the link that is printed at the start.
async fn index(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let entered = auth::enter(shared.keys.as_ref(), request.uri().query(), request.headers());
    entered.unwrap_or_else(|| answer("index.html", include_str!("../page/index.html")))
}

fn answer(name: &str, content: &'static str) -> Response {
    let kind = match name.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    };
    ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, POLICY)], content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_that_is_imported_is_served_and_nothing_comes_from_elsewhere() {
        let index = include_str!("../page/index.html");
        let served = |name: &str| ASSETS.iter().any(|asset| asset.0 == name);
        for (name, content) in ASSETS.iter().chain(&[("index.html", index)]) {
            for line in content.lines().filter(|line| line.contains(" from \"")) {
                let module = line.split(" from \"./").nth(1).and_then(|rest| rest.split('"').next());
                assert!(module.is_some_and(served), "{name}: {line}");
            }
            let foreign = content.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !foreign.contains("http://") && !foreign.contains("https://") && !foreign.contains("//cdn"),
                "{name}"
            );
            // The policy forbids them anyway.
            assert!(
                !content.contains(" style=\"") && !content.contains(".innerHTML") && !content.contains("eval("),
                "{name}"
            );
        }
        for part in index.split("/page/").skip(1) {
            assert!(served(part.split('"').next().unwrap()), "{part}");
        }
    }
}
