// Heat maps of the cosines of words and patches from the service, interpolated as the service does
// it.

/** Mean over rows of a matrix, of columns `from` up to `to`. */
export function meanOf(rows, from, to) {
  const cells = new Float32Array(to - from);
  for (const row of rows) for (let n = from; n < to; n += 1) cells[n - from] += row[n] / rows.length;
  return cells;
}

/** Interpolates bilinearly between the centres of cells: `[side, side]` to `[pixels, pixels]`. */
export function enlarge(cells, side, pixels) {
  const place = (n) => {
    const at = Math.max(((n + 0.5) * side) / pixels - 0.5, 0);
    const low = Math.min(Math.floor(at), side - 1);
    return [low, Math.min(low + 1, side - 1), at - low];
  };
  const values = new Float32Array(pixels * pixels);
  for (let y = 0; y < pixels; y += 1) {
    const [top, bottom, down] = place(y);
    for (let x = 0; x < pixels; x += 1) {
      const [left, right, along] = place(x);
      const row = (r) => cells[r * side + left] * (1 - along) + cells[r * side + right] * along;
      values[y * pixels + x] = row(top) * (1 - down) + row(bottom) * down;
    }
  }
  return values;
}

/** From cold to hot. Lightness rises monotonically, so that the map is readable without colour. */
const STOPS = [[20, 11, 82], [98, 20, 128], [176, 42, 110], [229, 92, 64], [250, 160, 40], [252, 232, 120]];

/** Colour of a value in 0…1, `[r, g, b]`. */
export function colourOf(share) {
  const at = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((value, n) => Math.round(value + (STOPS[low + 1][n] - value) * (at - low)));
}

/** Opacity of a value in 0…1: the coldest third is transparent. */
export const coverOf = (share) => Math.min(Math.max((share - 0.3) / 0.45, 0), 1);

/** Draws a map on a canvas, with colours from `low` to `high`. */
export function painted(values, pixels, low, high) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = pixels;
  const context = canvas.getContext("2d");
  const image = context.createImageData(pixels, pixels);
  const range = high > low ? high - low : 1;
  for (let n = 0; n < values.length; n += 1) {
    const share = Math.min(Math.max((values[n] - low) / range, 0), 1);
    const [r, g, b] = colourOf(share);
    image.data.set([r, g, b, Math.round(255 * coverOf(share))], 4 * n);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Lowest and highest of several maps. */
export function extent(maps) {
  let [low, high] = [Infinity, -Infinity];
  for (const map of maps) {
    for (const value of map) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : [0, 1];
}
