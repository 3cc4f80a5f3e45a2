// Studies side by side in time order.

import { byId, make } from "./dom.js";
import { dateOf, daysBetween } from "./names.js";
import { changed, nameOf, on, remove, select, setDate, setView, store, VIEWS } from "./store.js";
import { Viewer } from "./viewer.js";

/** By image, so that an image keeps its canvas. */
const viewers = new Map();
let enlarged = null;

function viewerOf(picture, label) {
  let viewer = viewers.get(picture);
  if (!viewer) {
    viewer = new Viewer(picture, label);
    viewers.set(picture, viewer);
  }
  viewer.label = label;
  return viewer;
}

function slot(study, view) {
  const picture = study[view];
  if (!picture) return make("div", { class: `slot ${view} none` }, `no ${view} view`);
  const viewer = viewerOf(picture, `${view === "frontal" ? "Frontal" : "Lateral"} radiograph, ${nameOf(study)}`);
  const choice = make("select", {
    "aria-label": `View of ${picture.name}`,
    title: `View: ${picture.viewFrom}`,
    on: { change: (event) => setView(study, picture, event.target.value) },
  }, ...VIEWS.map((own) => make("option", { value: own, selected: own === view }, own)));
  const drop = make("button", {
    type: "button", class: "quiet", "aria-label": `Remove ${picture.name}`, title: "Remove this image",
    on: { click: () => remove(study, view) },
  }, "×");
  const large = make("button", {
    type: "button", class: "quiet", "aria-label": `Enlarge ${picture.name}`, "aria-pressed": String(enlarged === picture),
    title: "Enlarge (Enter or double click)", on: { click: () => changed("enlarge", picture) },
  }, "⤢");
  const bar = make("div", { class: "slot-bar" }, choice, make("span", { class: "file", title: picture.name }, picture.name), large, drop);
  return make("div", { class: `slot ${view}`, dataset: { file: picture.name } }, bar, viewer.element);
}

function column(study, before, laterals) {
  const selected = study.id === store.selected;
  const date = make("input", {
    type: "text", class: "date", value: study.date ?? "", placeholder: "YYYY-MM-DD", size: 10, spellcheck: "false", "aria-label": `Date of ${nameOf(study)}`,
    title: study.date ? `Date: ${(study.frontal ?? study.lateral).dateFrom}` : "Unknown date; enter it",
    on: {
      change: (event) => {
        const text = event.target.value.trim();
        event.target.setCustomValidity(text && dateOf(text) !== text ? "Enter a date such as 2024-03-09." : "");
        if (event.target.reportValidity()) setDate(study, text);
      },
    },
  });
  const days = before?.date && study.date ? `+${daysBetween(before.date, study.date)} d` : "";
  const choose = make("button", {
    type: "button", class: "choose", "aria-pressed": String(selected),
    title: "The tabs Report and Nearest studies refer to the selected study", on: { click: () => select(study) },
  }, selected ? "● selected" : "○ select");
  const head = make("header", {}, date, make("span", { class: "days" }, days), choose);
  return make("article", { class: selected ? "study selected" : "study", "aria-label": `Study ${nameOf(study)}` },
    head, slot(study, "frontal"), laterals && slot(study, "lateral"));
}

function axis() {
  const dated = store.studies.filter((study) => study.date);
  const line = byId("axis");
  line.hidden = dated.length < 2;
  if (dated.length < 2) return;
  const span = daysBetween(dated[0].date, dated.at(-1).date) || 1;
  const dots = dated.map((study) => {
    const dot = make("span", { class: study.id === store.selected ? "dot selected" : "dot", title: study.date });
    dot.style.left = `${(daysBetween(dated[0].date, study.date) / span) * 100}%`;
    return dot;
  });
  line.replaceChildren(make("span", { class: "axis-line" }, ...dots), make("span", { class: "axis-days" }, `${span} days`));
}

function render() {
  const there = new Set(store.studies.flatMap((study) => VIEWS.map((view) => study[view])));
  for (const [picture, viewer] of viewers) {
    if (!there.has(picture)) {
      viewer.close();
      viewers.delete(picture);
    }
  }
  if (enlarged && !there.has(enlarged)) enlarged = null;
  const focused = document.activeElement?.closest?.(".slot")?.dataset.file;
  const choosing = document.activeElement?.classList.contains("choose");
  const empty = store.studies.length === 0;
  byId("welcome").hidden = !empty;
  byId("work").hidden = empty;
  byId("clear").hidden = empty;
  const laterals = store.studies.some((study) => study.lateral);
  const shown = enlarged ? store.studies.filter((study) => VIEWS.some((view) => study[view] === enlarged)) : store.studies;
  byId("columns").classList.toggle("enlarged", Boolean(enlarged));
  byId("columns").replaceChildren(
    ...shown.map((study) => column(study, store.studies[store.studies.indexOf(study) - 1], laterals)),
  );
  for (const own of byId("columns").querySelectorAll(".slot")) {
    if (enlarged) own.hidden = own.dataset.file !== enlarged.name;
    if (own.dataset.file === focused) own.querySelector("canvas")?.focus({ preventScroll: true });
  }
  if (choosing) byId("columns").querySelector(".study.selected .choose")?.focus();
  axis();
}

export function setUpTimeline() {
  on("studies", render);
  on("selected", render);
  on("enlarge", (picture) => {
    enlarged = enlarged === picture ? null : picture;
    render();
    viewers.get(picture)?.canvas.focus();
  });
}
