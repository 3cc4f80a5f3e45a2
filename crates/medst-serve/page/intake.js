// Adding files: dropped, chosen, or from an example patient. The service decodes images as for the
// models.

import { ask, isStopped } from "./api.js";
import { byId, bytesOf, make } from "./dom.js";
import { dateOf, stemOf, viewOf } from "./names.js";
import { changed, clear, place, placeReport, picturesOf, store } from "./store.js";

/** Number of files that are read concurrently. */
const AT_ONCE = 3;
let count = 0;

export function complain(name, reason) {
  byId("problems").hidden = false;
  byId("problem-list").append(make("li", {}, make("b", {}, name), `: ${reason}`));
}

export function forgetProblems() {
  byId("problems").hidden = true;
  byId("problem-list").replaceChildren();
}

/** Reads an image. Its header takes precedence over its file name. */
async function read(file) {
  count += 1;
  const answer = await ask(`files/${count}`, "/v1/picture", { model: store.model.name }, { picture: file });
  const blob = new Blob([bytesOf(answer.png)], { type: "image/png" });
  const bitmap = await createImageBitmap(blob);
  const square = new Blob([bytesOf(answer.square)], { type: "image/png" });
  const header = answer.header;
  const told = header?.view ? (["PA", "AP"].includes(header.view) ? "frontal" : "lateral") : null;
  const named = viewOf(file.name);
  return {
    id: count,
    file,
    name: file.name,
    view: told ?? named ?? "frontal",
    viewFrom: told ? `DICOM header: ${header.view}` : named ? "from the file name" : "assumed; change it if this is a lateral view",
    date: header?.date ?? dateOf(file.name),
    dateFrom: header?.date ? "DICOM header" : "file name",
    key: header?.study ?? stemOf(file.name),
    subject: header?.subject ?? null,
    size: answer.size,
    bitmap,
    square,
    squareSide: (await createImageBitmap(square)).width,
    squareBounds: answer.square_bounds,
    readBounds: answer.read_bounds,
    patches: answer.patches,
  };
}

/** Adds files. Lists files that cannot be read, with the reason, and adds the others. */
export async function take(files) {
  const pictures = [];
  const texts = [];
  const waiting = [...files];
  const work = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      try {
        if (/\.txt$/i.test(file.name)) texts.push([file, await file.text()]);
        else pictures.push(await read(file));
      } catch (error) {
        if (!isStopped(error)) complain(file.name, error.message.replace(/^picture: /, ""));
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const fresh = store.studies.length === 0;
  pictures.sort((a, b) => a.name.localeCompare(b.name)).forEach(place);
  for (const [file, text] of texts) {
    const known = placeReport(stemOf(file.name), dateOf(file.name), text);
    if (!known) complain(file.name, "no image has the date or name of this report; paste it under Report instead");
  }
  if (fresh) store.selected = store.studies.at(-1)?.id ?? null;
  const subjects = new Set(store.studies.flatMap(picturesOf).map((own) => own.subject).filter(Boolean));
  if (subjects.size > 1) complain("different patients", "the DICOM headers name more than one patient; changes between dates are meaningless");
  changed("studies");
}

/** Reads the images again after a change of the model, whose input size may differ. */
export async function readAgain() {
  const own = store.studies.flatMap((study) => picturesOf(study).map((picture) => [study, picture]));
  for (const [study, picture] of own) {
    try {
      const fresh = await read(picture.file);
      study[picture.view] = { ...fresh, view: picture.view };
    } catch (error) {
      if (!isStopped(error)) complain(picture.name, error.message);
    }
  }
  changed("studies");
}

async function takeExample(patient) {
  clear();
  forgetProblems();
  const files = [];
  for (const name of patient.files) {
    try {
      const blob = await ask("example", `/v1/examples/${encodeURIComponent(patient.name)}/${encodeURIComponent(name)}`);
      files.push(new File([blob], name));
    } catch (error) {
      if (isStopped(error)) return;
      complain(name, error.message);
    }
  }
  await take(files);
}

export function setUpIntake() {
  const input = byId("files");
  input.addEventListener("change", async () => {
    const files = [...input.files];
    input.value = "";
    await take(files);
  });
  for (const button of document.querySelectorAll("[data-act=choose]")) button.addEventListener("click", () => input.click());
  byId("clear").addEventListener("click", () => {
    clear();
    forgetProblems();
  });
  byId("problems-close").addEventListener("click", forgetProblems);
  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("over");
  };
  document.addEventListener("dragenter", over);
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    take(event.dataTransfer.files);
  });
}

/** Offers the service's example patients. */
export function offerExamples(patients) {
  byId("examples").hidden = patients.length === 0;
  byId("example-buttons").replaceChildren(
    ...patients.map((patient) =>
      make("button", { type: "button", class: "example", on: { click: () => takeExample(patient) } },
        make("b", {}, patient.name), ` ${patient.files.filter((name) => !/\.txt$/i.test(name)).length} images`)),
  );
}
