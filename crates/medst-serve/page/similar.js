// The most similar studies of an index.

import { ask, isStopped } from "./api.js";
import { byId, make } from "./dom.js";
import { phrase } from "./phrase.js";
import { filesOf, nameOf, on, selectedStudy, store } from "./store.js";

const LABELS = new Set(["1", "1.0", "yes", "true"]);

/** Names of the findings that the labels of a study state as present. */
const present = (labels) => Object.entries(labels ?? {}).filter(([, value]) => LABELS.has(String(value).toLowerCase())).map(([name]) => name.replaceAll("_", " "));

function item(found) {
  const labels = present(found.labels);
  const day = found.acquired === undefined ? "" : ` · day ${found.acquired}`;
  return make("li", { dataset: { study: found.study, similarity: found.similarity } },
    make("div", { class: "found-head" },
      make("span", { class: "cosine" }, found.similarity.toFixed(3)),
      make("b", {}, found.study),
      make("span", { class: "dim" }, `${found.subject ? `subject ${found.subject}` : ""}${day}`)),
    labels.length > 0 && make("div", { class: "labels" }, ...labels.map((name) => make("span", { class: "label" }, name))),
    found.report && make("details", {}, make("summary", {}, found.report.slice(0, 90)), make("p", {}, found.report)));
}

async function search() {
  const study = selectedStudy();
  const by = byId("search-by").value;
  const [picture, text] = [by !== "phrase", by !== "picture"];
  const place = byId("similar-result");
  byId("similar-error").textContent = "";
  if (picture && !study) return;
  if (text && !phrase()) {
    byId("similar-error").textContent = "Enter a phrase above first.";
    return;
  }
  const request = { index: byId("index").value, count: Number(byId("search-count").value), among: byId("search-among").value };
  if (text) request.text = phrase();
  const finding = byId("search-finding").value.trim();
  if (finding) request.findings = [finding];
  place.setAttribute("aria-busy", "true");
  try {
    const answer = await ask("nearest", "/v1/search", request, picture ? filesOf([study], (_, view) => view) : {});
    const what = { picture: `the images of ${study && nameOf(study)}`, phrase: `“${phrase()}”`, both: `the images of ${study && nameOf(study)} and “${phrase()}”` }[by];
    place.replaceChildren(
      make("p", { class: "summary" }, `Nearest to ${what} among ${answer.candidates} studies, by the cosine of embeddings${answer.exact ? "" : " (approximate)"}:`),
      make("ol", { class: "found" }, ...answer.found.map(item)),
      answer.found.length === 0 && make("p", {}, "No study matches the filter."));
  } catch (error) {
    if (isStopped(error)) return;
    place.replaceChildren();
    byId("similar-error").textContent = error.message;
  } finally {
    place.removeAttribute("aria-busy");
  }
}

/** Lists the indexes of the model. */
export function offerIndexes() {
  const own = store.service.indexes.filter((index) => index.model === store.model.name);
  byId("index").replaceChildren(...own.map((index) => make("option", { value: index.name }, `${index.name} (${index.studies} studies)`)));
  byId("similar-form").hidden = own.length === 0;
  byId("similar-none").hidden = own.length > 0;
}

export function setUpSimilar() {
  byId("search").addEventListener("click", search);
  byId("search-finding").addEventListener("keydown", (event) => event.key === "Enter" && search());
  const forget = () => byId("similar-result").replaceChildren();
  on("studies", forget);
  on("selected", forget);
}
