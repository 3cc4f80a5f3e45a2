// Findings by date, and how they changed between dates.

import { ask, isStopped, stop } from "./api.js";
import { byId, make, number, percent, settled } from "./dom.js";
import { changed, filesOf, nameOf, on, store } from "./store.js";

const USUAL = ["consolidation", "edema", "pleural effusion", "pneumonia", "pneumothorax", "atelectasis", "cardiomegaly"];
const SIGNS = { worsening: "▲", improving: "▼", stable: "=" };

const names = () => [...new Set(byId("classes").value.split(",").map((name) => name.trim()).filter(Boolean))];

/** Section headers in archives follow a space, which is often lost in pasted reports. */
export const asArchived = (report) => report.replace(/^[ \t]*([A-Z][A-Z ()/,-]*:\s)/gm, " $1").replace(/^\s*([[{])/, ". $1");

async function classify() {
  const request = { model: store.model.name, classes: names() };
  return ask("findings", "/v1/zero-shot", request, filesOf(store.studies, (n, view) => `studies.${n}.${view}`));
}

async function compare() {
  const files = filesOf(store.studies, (n, view) => `time_points.${n}.${view}`);
  store.studies.forEach((study, n) => {
    files[`time_points.${n}.name`] = nameOf(study);
    if (study.date) files[`time_points.${n}.day`] = String(Date.parse(`${study.date}T00:00:00Z`) / 86400000);
    if (study.report.trim()) files[`time_points.${n}.report`] = asArchived(study.report);
  });
  const request = { model: store.model.name, findings: names().slice(0, 32).map((name) => name.toLowerCase()) };
  try {
    return await ask("change", "/v1/compare", request, files);
  } catch (error) {
    // The images can be compared without a report that cannot be read.
    if (error.code !== "unreadable_report") throw error;
    for (const name of Object.keys(files)) if (name.endsWith(".report")) delete files[name];
    const answer = await ask("change", "/v1/compare", request, files);
    return { ...answer, without: `Compared without reports: ${error.message}` };
  }
}

/**
 * A finding less probable than this on both dates has no course: models learn change from patients
 * who have the finding.
 */
const ABSENT = 0.1;

/** The change of a finding in a step: a sign, and text for screen readers. `absent`: on both. */
function change(found, since, calibrated, absent) {
  if (!found) return null;
  const said = found.said ?? "unclear";
  const how = found.courses ? "probability" : "of sentence pairs agree";
  const course = `${said} since ${since}: ${percent(found.confidence)} ${how}; change ${number(found.change.towards_worse)} (above 0: towards worse)`;
  const words = absent ? `absent on both dates (probability below ${percent(ABSENT)}), so the change is not shown` : course;
  const sign = said === "unclear" ? "~" : calibrated && !found.courses ? SIGNS[said] : `${SIGNS[said]} ${percent(found.confidence)}`;
  return make("span", { class: `change ${absent ? "absent" : said}`, dataset: { said, change: found.change.towards_worse }, title: words },
    make("span", { "aria-hidden": "true" }, absent ? "–" : sign),
    make("span", { class: "unseen" }, words));
}

function presence(classified, row, column, place) {
  const { scores, probabilities } = classified.studies[column];
  const calibrated = classified.calibrated_on !== null;
  const bar = make("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${Math.round(100 * (calibrated ? probabilities[row] : place))}%`;
  return make("td", {
    class: "presence", dataset: { score: scores[row], probability: probabilities[row] },
    title: `${classified.classes[row]}, ${nameOf(store.studies[column])}: score ${number(scores[row])}${calibrated ? `, probability ${percent(probabilities[row])}` : ""}`,
  }, make("span", { class: "value" }, calibrated ? percent(probabilities[row]) : number(scores[row], 2)), bar);
}

/** A date in two lines. */
const heading = (study) => (study.date ? [study.date.slice(0, 5), make("wbr"), make("span", { class: "whole" }, study.date.slice(5))] : [nameOf(study)]);

function table(classified, compared) {
  const all = store.studies;
  const steps = compared?.steps ?? [];
  const overall = all.length > 2 && compared;
  const rows = classified.classes.map((name, row) => {
    const scores = classified.studies.map((study) => study.scores[row]);
    const [low, high] = [Math.min(...scores), Math.max(...scores)];
    const absent = (n) => classified.calibrated_on !== null && classified.studies[n].probabilities[row] < ABSENT;
    const since = (step, from, to) => {
      const found = step?.findings.find((own) => own.finding === name.toLowerCase());
      return change(found, nameOf(all[from]), compared.calibrated_on !== null, absent(from) && absent(to));
    };
    const cells = all.map((study, n) => {
      const cell = presence(classified, row, n, high > low ? (scores[n] - low) / (high - low) : 0.5);
      const own = n > 0 && since(steps[n - 1], n - 1, n);
      if (own) cell.append(own);
      return cell;
    });
    const phrase = make("button", {
      type: "button", class: "link", title: `Locate “${name}” in the images`,
      on: {
        click: () => {
          byId("phrase").value = name;
          byId("phrase").dispatchEvent(new Event("input"));
        },
      },
    }, name);
    return make("tr", { dataset: { finding: name } }, make("th", { scope: "row" }, phrase), ...cells,
      overall && make("td", {}, since(steps.at(-1), 0, all.length - 1)));
  });
  const heads = all.map((study) => make("th", { scope: "col", class: study.id === store.selected ? "selected" : null }, ...heading(study)));
  return make("div", { class: "scroll" }, make("table", {},
    make("caption", {}, all.length > 1 ? "Findings by date, and change since the date before: ▲ worsening  ▼ improving  = stable  ~ unclear  – absent on both" : "Findings"),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "finding"), ...heads, overall && make("th", { scope: "col" }, "first to last"))),
    make("tbody", {}, ...rows)));
}

/** Removes the folders of the service from a path. */
const sourceOf = (text) => text.replace(/\S*\//g, "");

/** Explains the numbers, and what is missing. */
function notes(classified, compared) {
  const lines = [];
  if (classified.calibrated_on) lines.push(`Percentages by date: probabilities, calibrated on ${sourceOf(classified.calibrated_on)}.`);
  else lines.push("By date: scores, not probabilities. Scores of the same finding can be compared with each other; the bar shows where a score is between this patient's lowest and highest. To see probabilities, start the service with --calibration (see medst zero-shot --fit-calibration) and enter the findings that the calibration covers.");
  if (!compared) lines.push("Add a second date to see changes.");
  else if (compared.calibrated_on) lines.push(`Change: probability of the most likely course, calibrated on ${sourceOf(compared.calibrated_on)}. A sign without a percentage, and “unclear”, show the majority of the sentence pairs and are not calibrated.`);
  else lines.push("Change: share of sentence pairs that agree on the direction; below 75 % it is unclear. To see probabilities, start the service with --courses (see medst compare --fit-calibration).");
  if (compared?.calibrated_on) {
    const { names: known, log_loss: losses } = store.model.courses;
    const poor = known.filter((name, n) => losses[n][1] >= losses[n][0] && names().some((own) => own.toLowerCase() === name));
    if (poor.length > 0) lines.push(`On held-out patients, the calibration of change is not better than a guess for ${poor.join(", ")}: disregard these percentages.`);
  }
  if (compared?.without) lines.push(compared.without);
  return make("div", { class: "notes" }, ...lines.map((line) => make("p", {}, line)));
}

function order(compared) {
  const list = [];
  const said = (what, believed, names) => {
    if (!believed) return;
    const own = believed.order.map((n) => names[n]).join(" → ");
    list.push(make("li", {}, `Most probable order from ${what}: ${own} (${(100 * believed.probability).toFixed(1)} %); the order of the dates ranks ${believed.given_place} of ${believed.orders} (${(100 * believed.given_probability).toFixed(1)} %).`));
  };
  const points = compared.time_points;
  said("images and reports", compared.order_by_reports, compared.reported.map((n) => points[n]));
  said("images alone, in either direction", compared.order_by_images, points);
  compared.steps.forEach((step) => list.push(make("li", {},
    `${points[step.from]} → ${points[step.to]}: similarity of images ${step.image_similarity.toFixed(3)}${step.report_similarity === null ? "" : `, of reports ${step.report_similarity.toFixed(3)}`}.`)));
  return make("details", { class: "more" }, make("summary", {}, "Similarity and order in time"), make("ul", {}, ...list));
}

async function compute() {
  stop("findings");
  stop("change");
  const place = byId("findings-result");
  byId("findings-error").textContent = "";
  if (store.studies.length === 0) {
    place.replaceChildren();
    return;
  }
  if (names().length === 0) {
    byId("findings-error").textContent = "Enter at least one finding.";
    return;
  }
  place.setAttribute("aria-busy", "true");
  try {
    const [classified, compared] = await Promise.all([classify(), store.studies.length > 1 ? compare() : null]);
    place.replaceChildren(table(classified, compared), notes(classified, compared), compared ? order(compared) : "");
    changed("findings");
  } catch (error) {
    if (isStopped(error)) return;
    place.replaceChildren();
    byId("findings-error").textContent = error.message;
  } finally {
    place.removeAttribute("aria-busy");
  }
}

/** Fills in the calibrated findings, or the usual ones. */
export function usualFindings() {
  byId("classes").value = (store.model.calibrations[0]?.names ?? USUAL).join(", ");
}

export function setUpFindings() {
  const soon = settled(300, compute);
  on("studies", soon);
  on("reports", soon);
  byId("classes").addEventListener("change", compute);
}
