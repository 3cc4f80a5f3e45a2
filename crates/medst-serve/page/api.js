// Requests to the service: token, progress, cancellation, and error messages.

import { byId } from "./dom.js";

/** Kept only here, so that it is gone when the page is closed. */
let token = "";
const running = new Map();

export class ServiceError extends Error {
  /** `code` is the stable name of the error, such as `too_large`; empty without an answer. */
  constructor(status, message, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function setToken(value) {
  token = value.trim();
}

/** Cancels the requests of a kind, or all. */
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
  401: "The service requires a token.",
  408: "The files were received too slowly.",
  413: "Too large for this service",
  429: "The service is busy",
  500: "The service could not compute this",
  503: "The service is shutting down.",
  504: "The request timed out.",
};

/**
 * Sends a request. `kind` names the computation; a new request cancels the previous one of the
 * same kind.
 * Files are sent as multipart, everything else as JSON in the part `request`.
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
    throw new ServiceError(0, "The service does not respond. Is it still running?");
  }
}

async function read(answer) {
  const json = (answer.headers.get("Content-Type") ?? "").includes("json");
  if (answer.ok) return json ? answer.json() : answer.blob();
  const { code = "", message = "" } = (json && (await answer.json())?.error) || {};
  const words = WORDS[answer.status];
  const text = words && message ? `${words.replace(/\.$/, "")}: ${message}` : (message || words || `status ${answer.status}`);
  throw new ServiceError(answer.status, text, code);
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

/** Whether an error only means that the request was stopped. */
export const isStopped = (error) => error.name === "AbortError";
