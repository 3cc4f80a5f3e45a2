// Matches a report with the images of its study: words with regions, and sentences without a
// region.

import { ask, isStopped } from "./api.js";
import { byId, make, number } from "./dom.js";
import { showLayers } from "./layers.js";
import { entriesOf, reclaim } from "./phrase.js";
import { changed, filesOf, nameOf, on, selectedStudy, store } from "./store.js";

/** The answer, and the report and study that it belongs to. */
let [answer, of] = [null, null];

const least = () => Number(byId("least").value);

/** The decision of the service, for any threshold. */
const matches = (sentence) => sentence.closeness !== null && sentence.closeness >= least();

function point(sentence, word) {
  if (!sentence.grounded) return;
  const title = word === null ? `sentence “${sentence.text.slice(0, 60)}”` : `word “${sentence.grounded.matrices.words.slice(...word).join("")}”`;
  showLayers(title, entriesOf(of, sentence.grounded, word));
}

function sentenceElement(sentence, number_) {
  if (sentence.left_out) {
    return make("span", { class: "sentence unread", title: `not read: ${sentence.left_out}` }, sentence.text);
  }
  const own = matches(sentence);
  let at = -1;
  const element = make("span", {
    class: own ? "sentence matched" : "sentence unmatched", tabindex: 0, role: "button", dataset: { sentence: number_, closeness: sentence.closeness },
    "aria-label": `${sentence.text} ${own ? "Matches a region" : "Matches no region"}, closeness ${number(sentence.closeness)}`,
    title: `closeness ${number(sentence.closeness)}: ${own ? "matches a region" : "matches no region"}`,
    on: {
      focus: () => point(sentence, null),
      pointerenter: () => point(sentence, null),
      click: () => point(sentence, null),
      keydown: (event) => {
        const words = element.querySelectorAll(".word");
        if (!["ArrowLeft", "ArrowRight"].includes(event.key) || words.length === 0) return;
        event.preventDefault();
        at = Math.min(Math.max(at + (event.key === "ArrowRight" ? 1 : -1), 0), words.length - 1);
        words.forEach((word, n) => word.classList.toggle("pointed", n === at));
        point(sentence, sentence.pieces.filter((piece) => piece.words)[at].words);
      },
      blur: () => {
        at = -1;
        element.querySelectorAll(".word").forEach((word) => word.classList.remove("pointed"));
      },
    },
  });
  for (const piece of sentence.pieces) {
    if (!piece.words) {
      element.append(piece.text);
      continue;
    }
    element.append(make("span", {
      class: "word",
      on: { pointerenter: () => point(sentence, piece.words), pointerleave: () => point(sentence, null) },
    }, piece.text));
  }
  return element;
}

function render() {
  const place = byId("report-result");
  if (!answer) {
    place.replaceChildren();
    return;
  }
  const read = answer.sentences.filter((sentence) => sentence.closeness !== null);
  const without = read.filter((sentence) => !matches(sentence));
  const unread = answer.sentences.length - read.length;
  const text = make("div", { class: "told" });
  for (const piece of answer.pieces) {
    if (piece.sentence === null) text.append(make("span", { class: "between" }, piece.text));
    else text.append(sentenceElement(answer.sentences[piece.sentence], piece.sentence));
  }
  place.replaceChildren(
    make("p", { class: "summary" },
      `${read.length - without.length} of ${read.length} sentences match a region of ${nameOf(of)}; ${without.length} match none.${unread ? ` The model did not read ${unread}.` : ""}`),
    text,
    make("h3", {}, "Sentences that match no region"),
    without.length
      ? make("ul", { class: "without" }, ...without.map((own) => make("li", {}, own.text, make("span", { class: "peak" }, ` ${number(own.closeness)}`))))
      : make("p", {}, "None at this threshold."),
    make("p", { class: "notes" },
      "The number is the closeness of a sentence: the mean of its words' highest cosines with a patch, weighted by the importance that the model gives the words. It is not a probability, and the threshold is your choice: the range differs between models, and a small model hardly separates what the image shows from what it does not. Grey text is not read: the model reads the impression and findings."),
  );
}

async function compute() {
  const study = selectedStudy();
  byId("report-error").textContent = "";
  if (!study) return;
  [answer, of] = [null, null];
  if (!study.report.trim()) {
    byId("report-error").textContent = "Paste a report first.";
    render();
    return;
  }
  const place = byId("report-result");
  place.setAttribute("aria-busy", "true");
  try {
    const request = { model: store.model.name, report: study.report, least: least() };
    answer = await ask("report", "/v1/report", request, filesOf([study], (_, view) => view));
    of = study;
  } catch (error) {
    if (!isStopped(error)) byId("report-error").textContent = error.message;
  } finally {
    place.removeAttribute("aria-busy");
  }
  render();
}

function follow() {
  const study = selectedStudy();
  byId("report-of").textContent = study ? `Report of ${nameOf(study)}` : "Report";
  if (byId("report").value !== (study?.report ?? "")) byId("report").value = study?.report ?? "";
  if (of && of !== study) [answer, of] = [null, null];
  render();
}

export function setUpReport() {
  byId("report").addEventListener("input", () => {
    const study = selectedStudy();
    if (study) study.report = byId("report").value;
  });
  byId("report").addEventListener("change", () => changed("reports"));
  byId("report").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) compute();
  });
  byId("match").addEventListener("click", compute);
  byId("least").addEventListener("input", () => {
    byId("least-value").textContent = least().toFixed(2);
    render();
  });
  byId("report-result").addEventListener("pointerleave", reclaim);
  on("studies", follow);
  on("selected", follow);
}
