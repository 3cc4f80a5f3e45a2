// Date and view from file names, for files without a DICOM header.

const FRONTAL = new Set(["frontal", "pa", "ap", "front"]);
const LATERAL = new Set(["lateral", "lat", "ll", "rl", "side"]);

/** The words of a file name, in lower case, without its extension. */
function words(name) {
  return name.replace(/\.[A-Za-z0-9]+$/, "").toLowerCase().split(/[^a-z0-9]+/).filter(Boolean);
}

/** `frontal`, `lateral`, or null. */
export function viewOf(name) {
  const own = words(name);
  if (own.some((word) => LATERAL.has(word))) return "lateral";
  return own.some((word) => FRONTAL.has(word)) ? "frontal" : null;
}

/** `YYYY-MM-DD` if a name contains a valid date, otherwise null. */
export function dateOf(name) {
  for (const found of name.matchAll(/(?<!\d)((?:19|20|21)\d\d)([-_.]?)(\d\d)\2(\d\d)(?!\d)/g)) {
    const date = `${found[1]}-${found[3]}-${found[4]}`;
    const moment = new Date(`${date}T00:00:00Z`);
    if (!Number.isNaN(moment.getTime()) && moment.toISOString().startsWith(date)) return date;
  }
  return null;
}

/** The common part of a study's file names: the name without extension and view. */
export function stemOf(name) {
  return words(name).filter((word) => !FRONTAL.has(word) && !LATERAL.has(word)).join(" ") || name;
}

/** Days from one date to another. */
export function daysBetween(from, to) {
  return Math.round((Date.parse(`${to}T00:00:00Z`) - Date.parse(`${from}T00:00:00Z`)) / 86400000);
}
