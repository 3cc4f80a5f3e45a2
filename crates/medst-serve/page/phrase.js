// The phrase that is located in all studies, and its words.

import { ask, isStopped, stop } from "./api.js";
import { byId, make, percent, settled } from "./dom.js";
import { meanOf } from "./heat.js";
import { columnsOf, showLayers } from "./layers.js";
import { changed, filesOf, nameOf, on, store } from "./store.js";

/** Answers of the service, by study. */
let answers = new Map();
/** The word that was clicked, and the one that is pointed at. */
let [pinned, pointed] = [null, null];

export const phrase = () => byId("phrase").value.trim();

/** The layers of a phrase over the images of a study. */
export function entriesOf(study, grounded, word) {
  const { grid, similarity, patches_to_words: shares, words } = grounded.matrices;
  const rows = word === null ? similarity : similarity.slice(word[0], word[1]);
  return columnsOf(study, grid).map(({ picture, view, from, to }) => ({
    picture,
    cells: meanOf(rows, from, to),
    boxes: word === null ? (grounded.views.find((own) => own.view === view)?.boxes ?? []) : [],
    told: (cell) => {
      const own = shares[from + cell].map((share, n) => [words[n], share]).sort((a, b) => b[1] - a[1]);
      return own.slice(0, 3).map(([name, share]) => `${name} ${percent(share)}`).join(", ");
    },
  }));
}

function draw() {
  const word = pointed ?? pinned;
  const entries = [];
  let title = `“${phrase()}”`;
  for (const study of store.studies) {
    const grounded = answers.get(study.id);
    if (!grounded) continue;
    if (word !== null) title = `word “${grounded.words[word].word}”`;
    entries.push(...entriesOf(study, grounded, word === null ? null : [word, word + 1]));
  }
  showLayers(title, entries);
  for (const chip of byId("words").children) {
    chip.setAttribute("aria-pressed", String(Number(chip.dataset.word) === pinned));
  }
}

function chips() {
  const first = answers.values().next().value;
  const point = (word) => () => {
    pointed = word;
    draw();
  };
  byId("words").replaceChildren(
    ...(first?.words ?? []).map((own, n) =>
      make("button", {
        type: "button",
        class: "chip",
        dataset: { word: n },
        title: `${own.word === "[SEP]" ? "[SEP], the end of the text, is a token to the model" : "Heat map of this word alone"}; its share in the loss: ${percent(own.importance)}`,
        on: {
          pointerenter: point(n),
          pointerleave: point(null),
          focus: point(n),
          blur: point(null),
          click: () => {
            pinned = pinned === n ? null : n;
            draw();
          },
        },
      }, own.word)),
  );
}

async function look() {
  stopAll();
  const text = phrase();
  byId("phrase-error").textContent = "";
  [answers, pinned, pointed] = [new Map(), null, null];
  changed("phrase");
  if (!text || store.studies.length === 0) {
    chips();
    showLayers("", []);
    return;
  }
  const studies = [...store.studies];
  const one = async (study) => {
    const request = { phrase: text, matrices: true, model: store.model.name };
    try {
      answers.set(study.id, await ask(`phrase/${study.id}`, "/v1/ground", request, filesOf([study], (_, view) => view)));
    } catch (error) {
      if (isStopped(error)) return;
      byId("phrase-error").textContent = `${nameOf(study)}: ${error.message}`;
    }
    if (text !== phrase()) return;
    chips();
    draw();
  };
  await Promise.all(studies.map(one));
}

function stopAll() {
  for (const study of store.studies) stop(`phrase/${study.id}`);
}

/** Shows the heat map of the phrase again, in place of a report's. */
export function reclaim() {
  if (answers.size > 0) draw();
  else showLayers("", []);
}

export function setUpPhrase() {
  const soon = settled(350, look);
  byId("phrase").addEventListener("input", soon);
  byId("phrase").addEventListener("keydown", (event) => {
    if (event.key === "Enter") look();
  });
  byId("phrase").addEventListener("focus", () => answers.size > 0 && draw());
  for (const suggestion of document.querySelectorAll("#suggestions option")) suggestion.remove();
  byId("suggestions").append(
    ...["pleural effusion", "left pleural effusion", "pulmonary edema", "pneumothorax", "consolidation", "cardiomegaly", "bibasilar atelectasis"]
      .map((value) => make("option", { value })),
  );
  on("studies", soon);
}
