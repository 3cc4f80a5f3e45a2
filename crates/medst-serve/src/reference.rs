//! The API reference as a page: the OpenAPI document, rendered here. It loads nothing from
//! elsewhere and needs no script.

use std::sync::LazyLock;

use axum::response::Html;
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

use crate::openapi;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}\
code,pre{font:14px/1.4 ui-monospace,monospace;background:#f2f2f4;border-radius:4px}code{padding:.1em .3em}pre{padding:.8rem;overflow-x:auto}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}\
h2{margin-top:2.5rem;border-top:1px solid #ddd;padding-top:1rem}.verb{font-weight:700}.note{color:#555}\
@media(prefers-color-scheme:dark){body{color:#e8e8ea;background:#16161a}code,pre{background:#26262c}td,th,h2{border-color:#3a3a42}.note{color:#aaa}a{color:#8ab4ff}}";

/// Rendered once, because it takes milliseconds and requires no token.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let document = serde_json::to_value(openapi::document()).expect("the document is text and maps by text");
    render(&document).into_string()
});

/// `GET /reference`.
pub async fn page() -> Html<&'static str> {
    Html(PAGE.as_str())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn render(document: &Value) -> Markup {
    let info = &document["info"];
    let none = serde_json::Map::new();
    let paths = document["paths"].as_object().unwrap_or(&none);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (text(info, "title")) " reference" }
                style { (STYLE) }
            }
            body {
                h1 { (text(info, "title")) " " (text(info, "version")) }
                p { (text(info, "description")) }
                p.note { "Machine-readable: " a href="/openapi.json" { "openapi.json" } ". Errors have the form " code { "{\"error\": {\"code\", \"message\"}}" } "." }
                ul {
                    @for (path, operations) in paths {
                        @for (verb, _) in operations.as_object().unwrap_or(&none) {
                            li { a href={ "#" (anchor(verb, path)) } { (verb.to_uppercase()) " " (path) } }
                        }
                    }
                }
                @for (path, operations) in paths {
                    @for (verb, operation) in operations.as_object().unwrap_or(&none) {
                        (operation_of(document, path, verb, operation))
                    }
                }
            }
        }
    }
}

fn anchor(verb: &str, path: &str) -> String {
    format!("{verb}{}", path.replace('/', "-"))
}

fn operation_of(document: &Value, path: &str, verb: &str, operation: &Value) -> Markup {
    let none = serde_json::Map::new();
    let content = operation["requestBody"]["content"].as_object().unwrap_or(&none);
    let body = content.values().next().map(|media| resolved(document, &media["schema"]));
    html! {
        h2 id=(anchor(verb, path)) { span.verb { (verb.to_uppercase()) } " " code { (path) } }
        p { (text(operation, "summary")) }
        @for line in text(operation, "description").split("\n\n").filter(|line| !line.is_empty()) { p { (line) } }
        @if let Some(body) = body {
            p { "Body: " (content.keys().cloned().collect::<Vec<_>>().join(" or ")) }
            (fields(document, body))
        }
        table {
            tr { th { "status" } th { "when" } }
            @for (status, answer) in operation["responses"].as_object().unwrap_or(&none) {
                tr { td { code { (status) } } td { (text(answer, "description")) } }
            }
        }
    }
}

fn fields(document: &Value, schema: &Value) -> Markup {
    let none = serde_json::Map::new();
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    html! {
        table {
            tr { th { "field" } th { "type" } th { "" } }
            @for (name, field) in schema["properties"].as_object().unwrap_or(&none) {
                tr {
                    td { code { (name) } @if required.contains(&name.as_str()) { " (required)" } }
                    td { (kind(document, field)) }
                    td { (text(field, "description")) }
                }
            }
        }
    }
}

/// Follows a reference.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|reference| document.pointer(reference.trim_start_matches('#'))) {
        Some(found) => found,
        None => schema,
    }
}

/// The type of a field in a few words.
fn kind(document: &Value, schema: &Value) -> String {
    let target = resolved(document, schema);
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = target[choice].as_array() {
            let kinds = choices.iter().map(|choice| kind(document, choice)).filter(|kind| kind != "null");
            return kinds.collect::<Vec<_>>().join(" or ");
        }
    }
    let name = match &target["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect::<Vec<_>>().join(" or ")
        }
        _ => String::new(),
    };
    match name.as_str() {
        "array" => format!("list of {}", kind(document, &target["items"])),
        "object" => {
            let names: Vec<&str> =
                target["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            if names.is_empty() { name } else { format!("{{{}}}", names.join(", ")) }
        }
        "string" if ["byte", "binary"].contains(&text(target, "format")) => "image (file or base64)".into(),
        _ => name,
    }
}
