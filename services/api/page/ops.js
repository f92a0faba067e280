// The page of the pipeline's health: asks /api/v1/ops again and again. What it does not know it shows as unknown.

import { isDark, switchTheme } from "./choices.js";
import { ask } from "./exact.js";
import { headline, written } from "./figures.js";
import { ago, speak } from "./words.js";

const REFRESH_MS = 15000; // as often as Prometheus scrapes
const HOUR_S = 3600;
const STEP_S = 60;
const SHOWN = 4; // series of a panel that are shown at once

const page = document.documentElement;
const element = (id) => document.getElementById(id);
const cards = new Map(); // by title
let told; // the newest answer
let failure = "";

function made(kind, name, text = "") {
  const one = document.createElement(kind);
  one.className = name;
  one.textContent = text;
  return one;
}

// --- the verdict and the alerts

function verdict() {
  if (failure) return `Unknown: ${failure}`;
  const firing = told.alerts.filter((one) => one.state === "firing").length;
  const pending = told.alerts.length - firing;
  const blind = told.panels.filter((one) => one.alerts.length && one.state === "unknown").length;
  const parts = [];
  if (firing) parts.push(`${firing} ${firing === 1 ? "alert fires" : "alerts fire"}`);
  if (pending) parts.push(`${pending} ${pending === 1 ? "is" : "are"} about to`);
  if (blind) parts.push(`${blind} judged ${blind === 1 ? "figure is" : "figures are"} unknown`);
  return parts.length ? parts.join(", ") : "No alert fires";
}

function alertItem(alert) {
  const item = made("li", "alert");
  item.dataset.state = alert.state === "firing" && alert.severity === "critical" ? "critical" : "warning";
  const badge = made("span", "state", alert.state === "firing" ? alert.severity : "pending");
  const text = made("p", "summary");
  text.append(made("strong", "", alert.name), ` ${alert.summary} `, made("span", "since", `since ${ago(Date.now() - new Date(alert.since)).replace(" ago", "")}`));
  item.append(badge, text);
  if (alert.runbook) {
    const link = made("a", "", "What to do");
    link.href = alert.runbook;
    link.setAttribute("aria-label", `What to do: ${alert.name}`);
    item.append(link);
  }
  return item;
}

function judge() {
  document.querySelector(".verdict").dataset.state = failure ? "unknown" : told.state;
  page.classList.toggle("stale", Boolean(failure));
  const text = verdict();
  if (element("verdict").textContent !== text) element("verdict").textContent = text; // it is spoken: once
  const list = element("alerts");
  list.replaceChildren(...(told?.alerts ?? []).map(alertItem));
  list.hidden = !list.children.length;
}

function age() {
  element("heard").textContent = told ? `as of ${ago(Date.now() - new Date(told.asOf))}` : "";
}

// --- the panels

function draw(svg, panel) {
  const values = panel.points.map((point) => point.value);
  const ceiling = Math.max(...values, 0) || 1;
  const x = (age) => (120 * (1 - age / HOUR_S)).toFixed(1);
  const y = (value) => (34 - 32 * (Math.max(0, value) / ceiling)).toFixed(1);
  let [line, area] = ["", ""];
  panel.points.forEach((point, place) => {
    const before = panel.points[place - 1];
    const joined = before && before.age - point.age <= STEP_S;
    if (!joined && before) area += "V36Z";
    line += joined ? `L${x(point.age)} ${y(point.value)}` : `M${x(point.age)} ${y(point.value)}h.1`;
    area += joined ? `L${x(point.age)} ${y(point.value)}` : `M${x(point.age)} 36V${y(point.value)}`;
  });
  svg.querySelector(".line").setAttribute("d", line);
  svg.querySelector(".area").setAttribute("d", area && `${area}V36Z`);
  const range = values.length ? `between ${written(panel.measure, Math.min(...values))} and ${written(panel.measure, Math.max(...values))}` : "no data";
  svg.setAttribute("aria-label", `Last hour: ${range}`);
}

function seriesItem(panel, one) {
  const item = made("li", one.value === undefined ? "none" : "");
  const name = made("span", "name", one.name);
  name.title = one.name;
  item.append(name, made("span", "value", written(panel.measure, one.value)));
  return item;
}

// Which series say something: those of several, and of processes those that are not up.
function telling(panel) {
  if (panel.measure === "up") return panel.series.filter((one) => one.name && one.value !== 1);
  return panel.series.filter((one) => one.name);
}

function show(panel) {
  const card = cards.get(panel.title) ?? add(panel);
  card.dataset.state = panel.state;
  card.querySelector(".state").textContent = panel.state === "unjudged" ? "" : panel.state;
  const [number, measure] = headline(panel);
  card.querySelector(".number").textContent = number;
  card.querySelector(".measure").textContent = measure;
  draw(card.querySelector(".spark"), panel);
  const items = telling(panel).map((one) => seriesItem(panel, one));
  const [first, rest] = card.querySelectorAll(".series");
  const more = card.querySelector(".more");
  first.replaceChildren(...items.slice(0, SHOWN));
  first.hidden = !items.length;
  rest.replaceChildren(...items.slice(SHOWN));
  more.hidden = items.length <= SHOWN;
  more.querySelector("summary").textContent = `${items.length - SHOWN} more`;
}

function add(panel) {
  let group = [...document.querySelectorAll(".group")].find((one) => one.querySelector("h2").textContent === panel.group);
  if (!group) {
    group = element("group").content.firstElementChild.cloneNode(true);
    group.querySelector("h2").textContent = panel.group;
    element("groups").append(group);
  }
  const card = element("panel").content.firstElementChild.cloneNode(true);
  card.querySelector("h3").textContent = panel.title;
  card.querySelector(".meaning").textContent = panel.meaning;
  group.querySelector(".panels").append(card);
  cards.set(panel.title, card);
  return card;
}

// --- what arrives

async function refresh() {
  try {
    told = await ask("/api/v1/ops");
    failure = "";
    told.panels.forEach(show);
  } catch (error) {
    failure = error.message;
  }
  judge();
  age();
  setTimeout(refresh, REFRESH_MS);
}

function theme() {
  const label = `Switch to the ${isDark() ? "light" : "dark"} theme`;
  element("theme").setAttribute("aria-label", label);
  element("theme").title = label;
}

element("theme").addEventListener("click", () => {
  switchTheme();
  theme();
});
speak("en");
theme();
refresh();
setInterval(age, 1000);
