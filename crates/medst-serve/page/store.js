// State of the page: studies in time order, each with at most one frontal and one lateral image,
// and a report.

const listeners = new Map();

export const store = {
  /**
   * @type {{id: number, date: string|null, key: string, frontal: object|null,
   *   lateral: object|null, report: string}[]}
   */
  studies: [],
  /** The study that report and search refer to. */
  selected: null,
  model: null,
  service: null,
  heat: true,
  opacity: 0.55,
  boxes: true,
  linked: true,
};

let next = 1;

/** Calls `act` when something of that name has changed. */
export function on(name, act) {
  listeners.set(name, [...(listeners.get(name) ?? []), act]);
}

export function changed(name, detail) {
  for (const act of listeners.get(name) ?? []) act(detail);
}

export const VIEWS = ["frontal", "lateral"];
export const picturesOf = (study) => VIEWS.map((view) => study[view]).filter(Boolean);
export const selectedStudy = () => store.studies.find((study) => study.id === store.selected) ?? null;
export const nameOf = (study) => study.date ?? `undated ${store.studies.filter((own) => !own.date).indexOf(study) + 1}`;

function sort() {
  store.studies.sort((a, b) => (a.date ?? "9").localeCompare(b.date ?? "9") || a.id - b.id);
  if (!selectedStudy()) store.selected = store.studies.at(-1)?.id ?? null;
}

/** Adds an image to its study, or to a new study if that view is taken. */
export function place(picture) {
  const fits = (study) => !study[picture.view] && (study.key === picture.key || (study.date && study.date === picture.date));
  let study = store.studies.find(fits);
  if (!study) {
    study = { id: next++, date: picture.date, key: picture.key, frontal: null, lateral: null, report: "" };
    store.studies.push(study);
  }
  study.date ??= picture.date;
  study[picture.view] = picture;
  sort();
}

/** Adds a report to the study with its name or date; returns false if there is none. */
export function placeReport(key, date, text) {
  const study = store.studies.find((own) => own.key === key) ?? store.studies.find((own) => date && own.date === date);
  if (study) study.report = text;
  return Boolean(study);
}

export function remove(study, view) {
  study[view] = null;
  store.studies = store.studies.filter((own) => picturesOf(own).length > 0);
  sort();
  changed("studies");
}

export function clear() {
  store.studies = [];
  store.selected = null;
  changed("studies");
}

/** Changes the date of a study; merges two studies of the same date if their views allow it. */
export function setDate(study, date) {
  study.date = date || null;
  const other = store.studies.find((own) => own !== study && date && own.date === date);
  if (other && VIEWS.every((view) => !other[view] || !study[view])) {
    for (const view of VIEWS) other[view] ??= study[view];
    other.report ||= study.report;
    store.studies = store.studies.filter((own) => own !== study);
    if (store.selected === study.id) store.selected = other.id;
  }
  sort();
  changed("studies");
}

/** Changes the view of an image; swaps it with the image in that place. */
export function setView(study, picture, view) {
  const from = picture.view;
  if (from === view) return;
  const other = study[view];
  study[view] = picture;
  study[from] = other;
  picture.view = view;
  if (other) other.view = from;
  changed("studies");
}

export function select(study) {
  if (store.selected === study.id) return;
  store.selected = study.id;
  changed("selected");
}

/** The files of studies for a request, by `place(n, view)`. */
export function filesOf(studies, where) {
  const files = {};
  studies.forEach((study, n) => {
    for (const view of VIEWS) if (study[view]) files[where(n, view)] = study[view].square;
  });
  return files;
}
