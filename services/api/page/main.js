// The page: the rankings of a window, live or of the past, put together from the modules beside this one.

import * as choices from "./choices.js";
import { explainer } from "./explain.js";
import { follow } from "./live.js";
import { changes, ranking } from "./ranking.js";
import { settings } from "./settings.js";
import { windows } from "./windows.js";
import * as words from "./words.js";

const { say } = words;
const NEWS_MS = 20000; // a screen reader hears of changes at most this often
const COUNTRY = "BR"; // whose competitors are shown; the default of the API
const OVER_MS = 120000; // so long after its end a newest window is called ended

const page = document.documentElement;
const element = (id) => document.getElementById(id);
const explain = explainer(element("explain"));

const rankings = settings.rankings.map((definition) => {
  const parts = ranking(definition, (entry) => explain(definition.field, one.set, entry));
  const one = { ...definition, ...parts, set: undefined }; // undefined: not known; null: there is none
  document.querySelector(".rankings").append(one.section);
  return one;
});
let picked = /^#\d{4}-\d\d-\d\dT[\d:]+Z$/.test(location.hash) ? location.hash.slice(1) : "latest";
let lengthShown;

// --- what is shown

function describe(one) {
  one.section.querySelector("h2").textContent = words.translated(one.title);
  one.section.querySelector(".where").textContent = words.scope(one.perCountry && COUNTRY);
  one.section.querySelector("thead .name").textContent = words.translated(one.competitor);
  const [badge, caption] = [one.section.querySelector(".status"), one.section.querySelector(".caption")];
  badge.hidden = !one.set;
  caption.hidden = !one.set;
  if (!one.set) return;
  badge.dataset.status = one.set.status;
  badge.querySelector("summary").textContent = say(`status.${one.set.status}`);
  badge.querySelector("p").textContent = say(`status.${one.set.status}.why`);
  caption.querySelector(".window").textContent = words.span(one.set.window);
}

function age() {
  const stale = live.isStale();
  page.classList.toggle("stale", stale);
  const over = live.now() - OVER_MS;
  for (const { set, section } of rankings) {
    if (!set) continue;
    const asOf = say("asOf", { ago: words.ago(live.now() - new Date(set.asOf)) });
    const ended = new Date(set.window.end);
    const quiet = picked === "latest" && ended < over ? ` · ${say("ended", { ago: words.ago(live.now() - ended) })}` : "";
    section.querySelector(".as-of").textContent = asOf + quiet;
    section.querySelector(".as-of").dateTime = set.asOf;
  }
  const phase = stale && live.phase !== "locked" ? "stale" : live.phase;
  const chip = element("live");
  chip.dataset.phase = phase;
  const label = chip.querySelector(".label");
  if (label.textContent !== say(`live.${phase}`)) label.textContent = say(`live.${phase}`);
  element("heard").textContent = say("live.checked", { ago: words.ago(Date.now() - live.heardAt) });
  const seconds = live.heartbeatMs / 1000;
  element("live-why").textContent = say("live.why", { heartbeat: words.count(seconds), limit: words.count(2 * seconds) });
  const problem = element("problem");
  const troubled = live.phase === "waiting" && Date.now() - live.heardAt > 3000;
  problem.hidden = !troubled;
  if (troubled) {
    const text = live.rejection ? say("problem.rejected", { detail: live.rejection }) : say("problem.unavailable");
    const message = problem.querySelector("span");
    if (message.textContent !== text) message.textContent = text; // it is spoken: once, not every second
    const left = Math.max(0, Math.ceil((live.retryAt - Date.now()) / 1000));
    element("retry-in").textContent = say("problem.again", { n: words.count(left) });
  }
}

function speak(language) {
  words.speak(language);
  page.lang = language;
  document.title = `Placar · ${say("tagline")}`;
  for (const each of document.querySelectorAll("[data-say]")) each.textContent = say(each.dataset.say);
  for (const each of document.querySelectorAll("[data-say-label]")) {
    each.setAttribute("aria-label", say(each.dataset.sayLabel));
    each.title = say(each.dataset.sayLabel);
  }
  for (const each of document.querySelectorAll("[data-language]")) {
    each.setAttribute("aria-pressed", String(each.dataset.language === language));
  }
  theme();
  for (const one of rankings) {
    describe(one);
    if (one.set !== undefined) one.show(one.set);
  }
  picker.render();
  age();
}

function theme() {
  const label = say(choices.isDark() ? "theme.light" : "theme.dark");
  element("theme").setAttribute("aria-label", label);
  element("theme").title = label;
}

// --- what a screen reader hears: the latest summary, not every change

let news = "";
let announcedAt = 0;

function queue(text) {
  news = text;
  if (Date.now() - announcedAt >= NEWS_MS) announce();
}

function announce() {
  if (!news || Date.now() - announcedAt < NEWS_MS) return;
  announcedAt = Date.now();
  element("news").textContent = news;
  news = "";
}

function summary(one, changed) {
  const title = words.translated(one.title);
  const name = (entry) => entry[one.field];
  const [first] = one.set.rankings;
  const rises = one.set.rankings
    .filter((entry) => changed.get(name(entry))?.rose > 0 || changed.get(name(entry))?.isNew)
    .map((entry) => say("news.rise", { name: name(entry), rank: words.count(entry.rank) }));
  return [say("news.lead", { title, name: name(first), total: words.money(first.totalSales) }), ...rises].join("; ");
}

// --- what arrives

function apply(one, set) {
  const before = one.set;
  const changed = set && before ? changes(before, set, one.field) : new Map();
  one.set = set;
  one.show(set, changed);
  describe(one);
  if (!set) return;
  if (before && before.window.start !== set.window.start) {
    queue(say("news.window", { title: words.translated(one.title), window: words.span(set.window) }));
  } else if ([...changed.values()].some((each) => each.rose > 0 || each.isNew)) {
    queue(summary(one, changed));
  }
  if (picked === "latest" && one === rankings[0]) picker.latest(set.window.start);
}

// A set that changes what is shown: of the newest window, or a newer revision of the one that is shown.
function take(set) {
  const one = rankings.find((each) => each.name === set.ranking);
  if (!one) return; // a newer server has more rankings than this page
  const [is, was] = [Date.parse(set.window.start), Date.parse(one.set?.window.start)];
  if (picked !== "latest" && is !== Date.parse(picked)) return;
  if (one.set && (is < was || (is === was && set.revision <= one.set.revision))) return;
  apply(one, set);
}

const live = follow({
  hello(frame) {
    if (lengthShown === frame.subscription.length) return;
    lengthShown = frame.subscription.length;
    picker.load(lengthShown);
  },
  snapshot(frame) {
    if (frame.resumed) {
      frame.sets.forEach(take);
      return;
    }
    for (const one of rankings) apply(one, frame.sets.find((set) => set.ranking === one.name) ?? null);
  },
  ranking: take,
  error(frame) {
    console.warn("the server rejects:", frame.detail);
  },
  state: () => age(),
  token(wrong) {
    element("token-why").textContent = say(wrong ? "token.wrong" : "token.why");
    if (!element("token").open) element("token").showModal();
  },
});

const picker = windows(element("windows"), picked, (choice) => {
  picked = choice;
  history.replaceState(null, "", choice === "latest" ? location.pathname + location.search : `#${choice}`);
  for (const one of rankings) {
    one.set = undefined;
    one.wait();
    describe(one);
  }
  live.subscribe(choice);
});

// --- what the reader does

for (const each of document.querySelectorAll("[data-language]")) {
  each.addEventListener("click", () => {
    choices.rememberLanguage(each.dataset.language);
    speak(each.dataset.language);
  });
}
element("theme").addEventListener("click", () => {
  choices.switchTheme();
  theme();
});
element("token").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  element("token").close();
  live.unlock(element("token-value").value);
  element("token-value").value = "";
});
element("retry").addEventListener("click", live.retry);
document.addEventListener("keydown", (event) => {
  const opened = event.key === "Escape" && event.target.closest?.("details[open]");
  if (!opened) return;
  opened.open = false;
  opened.querySelector("summary").focus();
});
document.addEventListener("click", (event) => {
  for (const opened of document.querySelectorAll("details[open]")) if (!opened.contains(event.target)) opened.open = false;
});

speak(choices.language(words.LANGUAGES));
if (picked === "latest") live.start();
else live.subscribe(picked);
setInterval(age, 1000);
setInterval(announce, 1000);
