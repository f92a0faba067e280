// Shows the pipeline's health, refreshed from api/v1/ops. What is not known is shown as unknown.

import { duration, formatted, headline } from "./figures.js";

const REFRESH_MS = 15000; // as often as Prometheus scrapes
const OLD_MS = 3 * REFRESH_MS;
const HOUR_S = 3600;
const STEP_S = 60;
const SHOWN = 4; // series of a panel that are shown at once

const page = document.documentElement;
const element = (id) => document.getElementById(id);
const cards = new Map(); // by title
const opened = new Set(); // alerts of which the reader wants to see all
let health; // the newest answer
let listed = "[]"; // its alerts, as they are shown
let receivedAt = Date.now();
let failure = "";

function made(kind, name, text = "") {
  const one = document.createElement(kind);
  one.className = name;
  one.textContent = text;
  return one;
}

// --- the verdict and the alerts

// Why the values may be out of date; empty where they are fresh.
function doubt() {
  return failure || (Date.now() - receivedAt > OLD_MS ? "no answer" : "");
}

function verdict() {
  if (doubt()) return `Unknown: ${doubt()}`;
  if (!health) return "Loading…";
  const firing = health.alerts.filter((one) => one.state === "firing").length;
  const pending = health.alerts.length - firing;
  const blind = health.panels.filter((one) => one.alerts.length && one.state === "unknown").length;
  const parts = [];
  if (firing) parts.push(`${firing} ${firing === 1 ? "alert is" : "alerts are"} firing`);
  if (pending) parts.push(`${pending} ${pending === 1 ? "alert is" : "alerts are"} pending`);
  if (blind) parts.push(`${blind} ${blind === 1 ? "figure is" : "figures are"} unknown`);
  return parts.length ? parts.join(", ") : "No alert is firing";
}

function since(alert) {
  const text = made("time", "since");
  text.dateTime = alert.since;
  return text; // age() fills it in
}

// The alerts of one rule in one state: the first, and how many more of what.
function alertItem(alerts) {
  const [alert, ...others] = alerts;
  const item = made("li", "alert");
  item.dataset.state = alert.state === "firing" && alert.severity === "critical" ? "critical" : "warning";
  const badge = made("span", "state", alert.state === "firing" ? alert.severity : "pending");
  const text = made("div", "summary");
  text.append(made("strong", "", alert.name), ` ${alert.summary} `, since(alert));
  item.append(badge, text);
  if (alert.runbook) {
    const link = made("a", "", "What to do");
    link.href = alert.runbook;
    link.setAttribute("aria-label", `What to do: ${alert.name}`);
    item.append(link);
  }
  if (others.length) {
    const more = made("details", "more");
    const list = made("ul", "others");
    for (const other of others) {
      const line = made("li", "", `${other.summary} `);
      line.append(since(other));
      list.append(line);
    }
    more.append(made("summary", "", `${others.length} more`), list);
    more.open = opened.has(alert.name);
    more.addEventListener("toggle", () => (more.open ? opened.add(alert.name) : opened.delete(alert.name)));
    text.append(more);
  }
  return item;
}

function judge() {
  document.querySelector(".verdict").dataset.state = doubt() || !health ? "unknown" : health.state;
  page.classList.toggle("stale", Boolean(doubt()));
  const text = verdict();
  if (element("verdict").textContent !== text) element("verdict").textContent = text; // screen readers announce it once
  const list = element("alerts");
  const alerts = health?.alerts ?? [];
  if (JSON.stringify(alerts) === listed) return; // keeps the keyboard focus on a link
  listed = JSON.stringify(alerts);
  list.replaceChildren(...Object.values(Object.groupBy(alerts, (one) => `${one.name} ${one.state}`)).map(alertItem));
  list.hidden = !list.children.length;
}

function age() {
  for (const each of document.querySelectorAll(".since")) {
    each.textContent = `for ${duration(Date.now() - new Date(each.dateTime))}`;
  }
  element("as-of").textContent = health ? `as of ${duration(Date.now() - new Date(health.asOf))} ago` : "";
}

// --- the panels

function draw(svg, panel) {
  const values = panel.points.map((point) => point.value);
  const ceiling = Math.max(...values, 0) || 1;
  const x = (age) => (120 * (1 - age / HOUR_S)).toFixed(1);
  const y = (value) => (34 - 32 * (Math.max(0, value) / ceiling)).toFixed(1);
  let [line, area] = ["", ""];
  panel.points.forEach((point, index) => {
    const before = panel.points[index - 1];
    const joined = before && before.age - point.age <= STEP_S;
    if (!joined && before) area += "V36Z";
    line += joined ? `L${x(point.age)} ${y(point.value)}` : `M${x(point.age)} ${y(point.value)}h.1`;
    area += joined ? `L${x(point.age)} ${y(point.value)}` : `M${x(point.age)} 36V${y(point.value)}`;
  });
  svg.querySelector(".line").setAttribute("d", line);
  svg.querySelector(".area").setAttribute("d", area && `${area}V36Z`);
  const range = values.length ? `between ${formatted(panel.measure, Math.min(...values))} and ${formatted(panel.measure, Math.max(...values))}` : "no data";
  svg.setAttribute("aria-label", `Last hour: ${range}`);
}

function seriesItem(panel, one) {
  const item = made("li", one.value === undefined ? "none" : "");
  const name = made("span", "name", one.name);
  name.title = one.name;
  item.append(name, made("span", "value", formatted(panel.measure, one.value)));
  return item;
}

// The series to list: of several all, of processes those that are not up.
function listable(panel) {
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
  const items = listable(panel).map((one) => seriesItem(panel, one));
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

// --- refresh

// The body of an answer; an Error with the problem's detail where it is none.
async function get(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  const isJson = response.headers.get("content-type")?.includes("json");
  if (response.ok && isJson) return response.json();
  throw new Error(isJson ? (await response.json()).detail : `${response.status} ${response.statusText}`);
}

async function refresh() {
  try {
    health = await get("api/v1/ops");
    receivedAt = Date.now();
    failure = "";
    health.panels.forEach(show);
  } catch (error) {
    failure = error.message;
  }
  tick();
}

function tick() {
  judge();
  age();
}

// --- the theme: the system's, unless the reader chose another one (theme.js applies that before the first paint)

const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (page.dataset.theme ? page.dataset.theme === "dark" : system.matches);

function label() {
  const text = `Switch to the ${isDark() ? "light" : "dark"} theme`;
  element("theme").setAttribute("aria-label", text);
  element("theme").title = text;
}

element("theme").addEventListener("click", () => {
  const chosen = isDark() ? "light" : "dark";
  const asSystem = (chosen === "dark") === system.matches; // then the page follows the system again
  if (asSystem) delete page.dataset.theme;
  else page.dataset.theme = chosen;
  try {
    if (asSystem) localStorage.removeItem("placar.theme");
    else localStorage.setItem("placar.theme", chosen);
  } catch (error) {
    console.info("the theme is not remembered:", error.message);
  }
  label();
});
label();
refresh();
setInterval(refresh, REFRESH_MS);
setInterval(tick, 1000);
