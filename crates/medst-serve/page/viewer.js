// An image on a canvas: window and level, zoom, heat map, boxes, and a patch cursor. Everything can
// be done by pointer and by keys.

import { byId, make, number } from "./dom.js";
import { layerOf } from "./layers.js";
import { changed, on, store } from "./store.js";

const whole = () => ({ window: 256, level: 128, zoom: 1, x: 0.5, y: 0.5, invert: false });
/** Display settings of the linked images of a view. */
const shared = { frontal: whole(), lateral: whole() };
const viewers = new Set();

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function redraw() {
  for (const viewer of viewers) viewer.draw();
}

export class Viewer {
  constructor(picture, label) {
    this.picture = picture;
    this.own = whole();
    this.cursor = null;
    this.canvas = make("canvas", { tabindex: 0, role: "img", "aria-label": label, "aria-keyshortcuts": "+ - 0 [ ] , . I H Enter" });
    this.readout = make("output", { class: "readout" });
    this.element = make("div", { class: "viewer" }, this.canvas, this.readout);
    this.label = label;
    const source = new OffscreenCanvas(picture.bitmap.width, picture.bitmap.height);
    const context = source.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture.bitmap, 0, 0);
    this.pixels = context.getImageData(0, 0, source.width, source.height);
    this.grey = new Uint8Array(source.width * source.height);
    for (let n = 0; n < this.grey.length; n += 1) this.grey[n] = this.pixels.data[4 * n];
    this.source = source;
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.element);
    viewers.add(this);
    this.listen();
  }

  close() {
    this.watch.disconnect();
    viewers.delete(this);
  }

  /** Display settings. */
  get how() {
    return store.linked ? shared[this.picture.view] : this.own;
  }

  change(change) {
    const how = this.how;
    Object.assign(how, change);
    how.window = clamp(how.window, 2, 1024);
    how.level = clamp(how.level, -128, 384);
    how.zoom = clamp(how.zoom, 1, 24);
    const half = 0.5 / how.zoom;
    how.x = clamp(how.x, half, 1 - half);
    how.y = clamp(how.y, half, 1 - half);
    redraw();
  }

  reset() {
    Object.assign(this.how, whole());
    redraw();
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      canvas.focus();
      this.drag = { x: event.clientX, y: event.clientY, pan: event.shiftKey || event.button !== 0 };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.drag) {
        this.cursor = this.cellAt(event.offsetX, event.offsetY);
        this.draw();
        return;
      }
      const [dx, dy] = [event.clientX - this.drag.x, event.clientY - this.drag.y];
      Object.assign(this.drag, { x: event.clientX, y: event.clientY });
      const how = this.how;
      if (this.drag.pan) {
        const place = this.placed();
        this.change({ x: how.x - dx / place.width, y: how.y - dy / place.height });
      } else {
        this.change({ window: how.window + dx * 1.5, level: how.level + dy });
      }
    });
    const end = () => {
      this.drag = null;
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => {
      this.cursor = null;
      this.draw();
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => changed("enlarge", this.picture));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(Math.exp(-event.deltaY * 0.0015), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const how = this.how;
    const step = 0.08 / how.zoom;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const acts = {
      "+": () => this.change({ zoom: how.zoom * 1.25 }),
      "=": () => this.change({ zoom: how.zoom * 1.25 }),
      "-": () => this.change({ zoom: how.zoom / 1.25 }),
      "[": () => this.change({ window: how.window - 16 }),
      "]": () => this.change({ window: how.window + 16 }),
      ",": () => this.change({ level: how.level - 8 }),
      ".": () => this.change({ level: how.level + 8 }),
      i: () => this.change({ invert: !how.invert }),
      0: () => this.reset(),
      r: () => this.reset(),
      h: () => byId("heat").click(),
      Enter: () => changed("enlarge", this.picture),
    };
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (moves[event.key]) {
      const [x, y] = moves[event.key];
      if (event.shiftKey || how.zoom === 1) this.moveCursor(x, y);
      else this.change({ x: how.x + x * step, y: how.y + y * step });
    } else if (act) {
      act();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  moveCursor(x, y) {
    const side = this.picture.patches;
    const at = this.cursor ?? Math.floor(side / 2) * side + Math.floor(side / 2);
    const column = clamp((at % side) + (this.cursor === null ? 0 : x), 0, side - 1);
    const row = clamp(Math.floor(at / side) + (this.cursor === null ? 0 : y), 0, side - 1);
    this.cursor = row * side + column;
    this.draw();
  }

  /** Position of the whole image on the canvas, in CSS pixels. */
  placed() {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const how = this.how;
    const fit = Math.min(width / this.picture.size[0], height / this.picture.size[1]);
    const scale = fit * how.zoom;
    const [w, h] = [this.picture.size[0] * scale, this.picture.size[1] * scale];
    const at = (length, extent, centre) => (extent <= length ? (length - extent) / 2 : clamp(length / 2 - centre * extent, length - extent, 0));
    return { left: at(width, w, how.x), top: at(height, h, how.y), width: w, height: h, scale };
  }

  zoomAt(factor, x, y) {
    const [how, before] = [this.how, this.placed()];
    const [px, py] = [(x - before.left) / before.width, (y - before.top) / before.height];
    const zoom = clamp(how.zoom * factor, 1, 24);
    const scale = zoom / how.zoom;
    const centre = (p, at, length, extent) => p + (length / 2 - at) / (extent * scale);
    this.change({
      zoom,
      x: centre(px, x, this.canvas.clientWidth, before.width),
      y: centre(py, y, this.canvas.clientHeight, before.height),
    });
  }

  /** The patch at a position on the canvas. */
  cellAt(x, y) {
    const place = this.placed();
    const [left, top, right, bottom] = this.picture.readBounds;
    const side = this.picture.patches;
    const column = Math.floor((((x - place.left) / place.scale - left) / (right - left)) * side);
    const row = Math.floor((((y - place.top) / place.scale - top) / (bottom - top)) * side);
    return column >= 0 && row >= 0 && column < side && row < side ? row * side + column : null;
  }

  /** Applies window and level. */
  toned() {
    const { window: width, level, invert } = this.how;
    const key = `${width} ${level} ${invert}`;
    if (this.tone === key) return this.source;
    const table = new Uint32Array(256);
    for (let n = 0; n < 256; n += 1) {
      const grey = clamp(Math.round(((n - level) / width + 0.5) * 255), 0, 255);
      const value = invert ? 255 - grey : grey;
      table[n] = (255 << 24) | (value << 16) | (value << 8) | value;
    }
    const target = new Uint32Array(this.pixels.data.buffer);
    for (let n = 0; n < target.length; n += 1) target[n] = table[this.grey[n]];
    this.source.getContext("2d").putImageData(this.pixels, 0, 0);
    this.tone = key;
    return this.source;
  }

  draw() {
    const { canvas, picture } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (width === 0 || height === 0) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    const place = this.placed();
    context.imageSmoothingEnabled = place.scale < 6;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.toned(), place.left, place.top, place.width, place.height);
    const box = ([left, top, right, bottom]) =>
      [place.left + left * place.scale, place.top + top * place.scale, (right - left) * place.scale, (bottom - top) * place.scale];
    const layer = layerOf(picture);
    if (layer && store.heat) {
      context.save();
      context.beginPath();
      context.rect(place.left, place.top, place.width, place.height);
      context.clip();
      context.globalAlpha = store.opacity;
      context.imageSmoothingEnabled = true;
      context.drawImage(layer.canvas, ...box(picture.readBounds));
      context.restore();
    }
    if (layer && store.boxes) {
      context.strokeStyle = "#5fe0ff";
      context.lineWidth = 1.5;
      for (const own of layer.boxes) context.strokeRect(...box(this.fromSquare(own.bounds)));
    }
    if (this.cursor !== null && layer) {
      const [left, top, right, bottom] = picture.readBounds;
      const side = picture.patches;
      const [w, h] = [(right - left) / side, (bottom - top) / side];
      const [column, row] = [this.cursor % side, Math.floor(this.cursor / side)];
      context.strokeStyle = "#fff";
      context.lineWidth = 1;
      context.strokeRect(...box([left + column * w, top + row * h, left + (column + 1) * w, top + (row + 1) * h]));
    }
    this.tell(layer);
  }

  /** Boxes are in pixels of the square. */
  fromSquare([left, top, right, bottom]) {
    const [x0, y0, x1] = this.picture.squareBounds;
    const scale = (x1 - x0) / this.picture.squareSide;
    return [x0 + left * scale, y0 + top * scale, x0 + right * scale, y0 + bottom * scale];
  }

  tell(layer) {
    const { window: width, level, zoom, invert } = this.how;
    const shown = `W ${Math.round(width)} L ${Math.round(level)}${zoom > 1 ? ` ${zoom.toFixed(1)}×` : ""}${invert ? " inverted" : ""}`;
    let heat = "";
    if (layer && this.cursor !== null) heat = `cosine ${number(layer.cells[this.cursor])} · attends to ${layer.told(this.cursor)}`;
    else if (layer) heat = `highest ${number(layer.peak)}`;
    const text = heat ? `${heat} · ${shown}` : shown;
    if (this.readout.textContent !== text) this.readout.textContent = text;
    if (layer) Object.assign(this.canvas.dataset, { peak: layer.peak, boxes: layer.boxes.length });
    else ["peak", "boxes"].forEach((own) => delete this.canvas.dataset[own]);
    Object.assign(this.canvas.dataset, { window: Math.round(width), level: Math.round(level), zoom: zoom.toFixed(2) });
    this.canvas.setAttribute("aria-label", `${this.label}. ${text}`);
  }
}

export function setUpViewers() {
  on("layers", redraw);
  on("look", redraw);
}
