// Requests to the service: the token, what is in progress, stopping, and errors in words.

import { byId } from "./dom.js";

/** Held here and nowhere else: gone with the page. */
let token = "";
const running = new Map();

export class ServiceError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setToken(value) {
  token = value.trim();
}

/** Ends requests: those of a kind, or all. */
export function stop(kind) {
  for (const [own, request] of running) {
    if (kind === undefined || own === kind) request.abort();
  }
}

function show() {
  const kinds = [...new Set([...running.keys()].map((kind) => kind.split("/")[0]))];
  byId("computing").textContent = kinds.length ? `computing: ${kinds.join(", ")}` : "ready";
  byId("computing").classList.toggle("busy", kinds.length > 0);
  byId("stop").hidden = kinds.length === 0;
}

const WORDS = {
  401: "The service asks for its token.",
  408: "The service gave up waiting for the files.",
  413: "Too large for this service",
  429: "The service is busy",
  500: "The service could not compute this",
  503: "The service is ending.",
  504: "The service had no answer in time.",
};

/**
 * Asks the service. `kind` names what is computed; a new request of a kind ends the one before.
 * Files go as multipart, everything else as JSON in the part `request`.
 */
export async function ask(kind, path, request = null, files = {}) {
  running.get(kind)?.abort();
  const control = new AbortController();
  running.set(kind, control);
  show();
  try {
    for (let attempt = 0; ; attempt += 1) {
      const answer = await send(path, request, files, control.signal);
      if (answer.status !== 429 || attempt === 3) return await read(answer);
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      await pause(1000 * seconds * (attempt + 1), control.signal);
    }
  } finally {
    if (running.get(kind) === control) running.delete(kind);
    show();
  }
}

async function send(path, request, files, signal) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let body;
  if (request !== null) {
    body = new FormData();
    body.append("request", JSON.stringify(request));
    for (const [name, file] of Object.entries(files)) {
      if (typeof file === "string") body.append(name, file);
      else body.append(name, file, "picture");
    }
  }
  try {
    return await fetch(path, { method: body ? "POST" : "GET", headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, "The service does not answer. Is it still running?");
  }
}

async function read(answer) {
  const json = (answer.headers.get("Content-Type") ?? "").includes("json");
  if (answer.ok) return json ? answer.json() : answer.blob();
  const told = json ? (await answer.json())?.error?.message : "";
  const words = WORDS[answer.status];
  throw new ServiceError(answer.status, words && told ? `${words.replace(/\.$/, "")}: ${told}` : (told || words || `status ${answer.status}`));
}

function pause(time, signal) {
  return new Promise((done, fail) => {
    const timer = setTimeout(done, time);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      fail(new DOMException("stopped", "AbortError"));
    });
  });
}

/** Whether an error only says that somebody stopped it. */
export const isStopped = (error) => error.name === "AbortError";
