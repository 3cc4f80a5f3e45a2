// The current heat map over the images: of a phrase, a word, or a sentence of a report. All images
// share one scale.

import { byId, number } from "./dom.js";
import { colourOf, coverOf, enlarge, extent, painted } from "./heat.js";
import { changed, store } from "./store.js";

/**
 * Boxes are drawn from this share of the scale upwards, because every image has a hottest region,
 * even one that does not show the phrase.
 */
const BOXED = 2 / 3;

/** By image: cells, their canvas, boxes, and the text of a cell. */
let layers = new Map();

export const layerOf = (picture) => layers.get(picture) ?? null;

/**
 * Shows maps. An entry has `picture`, `cells` (row by row), `boxes` (pixels of the square) and
 * `told(cell)`, the text of a cell.
 * `title` names the map.
 */
export function showLayers(title, entries) {
  // As large as the model's input, so that the extremes equal those of the service.
  const { pixels } = store.model;
  const maps = entries.map((entry) => enlarge(entry.cells, entry.picture.patches, pixels));
  const [low, high] = extent(maps);
  layers = new Map();
  entries.forEach((entry, n) => {
    let peak = -Infinity;
    for (const value of maps[n]) peak = Math.max(peak, value);
    const boxes = entry.boxes.filter((own) => own.peak >= low + BOXED * (high - low));
    layers.set(entry.picture, { ...entry, boxes, peak, canvas: painted(maps[n], pixels, low, high) });
  });
  byId("legend").hidden = entries.length === 0;
  if (entries.length > 0) {
    byId("legend-title").textContent = title;
    byId("legend-low").textContent = number(low);
    byId("legend-high").textContent = number(high);
    ramp();
  }
  changed("layers");
}

function ramp() {
  const canvas = byId("legend-ramp");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (let x = 0; x < canvas.width; x += 1) {
    const share = x / (canvas.width - 1);
    const [r, g, b] = colourOf(share);
    context.fillStyle = `rgba(${r},${g},${b},${0.12 + 0.88 * coverOf(share)})`;
    context.fillRect(x, 0, 1, canvas.height);
  }
}

/** A matrix of the service, `[words][patches of all views]`, as columns of each view. */
export function columnsOf(study, grid) {
  let from = 0;
  const columns = [];
  for (const view of ["frontal", "lateral"]) {
    if (!study[view]) continue;
    columns.push({ picture: study[view], view, from, to: from + grid * grid });
    from += grid * grid;
  }
  return columns;
}
