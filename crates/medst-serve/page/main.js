// Start-up: the models of the service, the token, panels, keys.

import { ask, isStopped, setToken, stop } from "./api.js";
import { byId, make } from "./dom.js";
import { setUpFindings, usualFindings } from "./findings.js";
import { offerExamples, readAgain, setUpIntake } from "./intake.js";
import { setUpPhrase } from "./phrase.js";
import { setUpReport } from "./report.js";
import { offerIndexes, setUpSimilar } from "./similar.js";
import { changed, store } from "./store.js";
import { setUpTimeline } from "./timeline.js";
import { setUpViewers } from "./viewer.js";

async function begin() {
  try {
    store.service = await ask("service", "/v1/models");
  } catch (error) {
    if (isStopped(error)) return;
    const asked = error.status === 401;
    byId("token-form").hidden = !asked;
    byId("token-error").textContent = asked && byId("token").value ? "Wrong token." : asked ? "" : error.message;
    if (asked) byId("token").focus();
    byId("start").hidden = true;
    return;
  }
  byId("token-form").hidden = true;
  byId("token").value = "";
  byId("token-error").textContent = "";
  byId("start").hidden = false;
  store.model = store.service.models[0];
  byId("model").replaceChildren(...store.service.models.map((model) => make("option", { value: model.name }, model.name)));
  byId("model-field").hidden = store.service.models.length < 2;
  modelChanged();
  try {
    offerExamples((await ask("examples", "/v1/examples")).patients);
  } catch (error) {
    if (!isStopped(error)) offerExamples([]);
  }
}

function modelChanged() {
  const { pixels, tokens, checksum } = store.model;
  byId("model-about").textContent = `model ${store.model.name}: reads ${pixels} × ${pixels} pixels and ${tokens} tokens; weights ${checksum.slice(0, 12)}`;
  usualFindings();
  offerIndexes();
}

function setUpTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const open = (tab) => {
    for (const own of tabs) {
      const chosen = own === tab;
      own.setAttribute("aria-selected", String(chosen));
      own.tabIndex = chosen ? 0 : -1;
      byId(own.getAttribute("aria-controls")).hidden = !chosen;
    }
  };
  tabs.forEach((tab, n) => {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(n + step + tabs.length) % tabs.length];
      open(next);
      next.focus();
      event.preventDefault();
    });
  });
}

function setUpSwitches() {
  for (const [id, key] of [["heat", "heat"], ["boxes", "boxes"], ["linked", "linked"]]) {
    byId(id).addEventListener("change", () => {
      store[key] = byId(id).checked;
      changed("look");
    });
  }
  byId("opacity").addEventListener("input", () => {
    store.opacity = Number(byId("opacity").value);
    changed("look");
  });
  byId("theme").addEventListener("click", () => {
    const light = getComputedStyle(document.documentElement).colorScheme === "light";
    document.documentElement.dataset.theme = light ? "dark" : "light";
  });
  byId("model").addEventListener("change", async () => {
    store.model = store.service.models.find((model) => model.name === byId("model").value);
    modelChanged();
    await readAgain();
  });
}

function setUpKeys() {
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("help-close").addEventListener("click", () => byId("help").close());
  byId("stop").addEventListener("click", () => stop());
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName);
    if (event.key === "Escape" && !byId("help").open) stop();
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      event.preventDefault();
      byId("phrase").focus();
    } else if (event.key === "?") {
      byId("help").showModal();
    }
  });
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  begin();
});
setUpIntake();
setUpTimeline();
setUpViewers();
setUpPhrase();
setUpFindings();
setUpReport();
setUpSimilar();
setUpTabs();
setUpSwitches();
setUpKeys();
begin();
