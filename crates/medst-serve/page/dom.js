// Creating and finding elements. Text is inserted as text, so that nothing from a file or the
// service becomes markup.

export const byId = (id) => document.getElementById(id);

/** An element with properties (`class`, `dataset`, `on`, attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const own = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") own.className = value;
    else if (name === "dataset") Object.assign(own.dataset, value);
    else if (name === "on") for (const [event, act] of Object.entries(value)) own.addEventListener(event, act);
    else own.setAttribute(name, value === true ? "" : value);
  }
  own.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return own;
}

/** Calls `act` once there was no further call for `wait` milliseconds. */
export function settled(wait, act) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...given), wait);
  };
}

export const number = (value, digits = 3) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(digits);
export const percent = (value) => `${Math.round(value * 100)} %`;

/** Decodes base64. */
export function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n += 1) bytes[n] = text.charCodeAt(n);
  return bytes;
}
