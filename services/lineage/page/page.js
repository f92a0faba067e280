"use strict";
// Draws jobs and datasets in layers from left to right: a node stands right of everything that it is made from.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 190, HEIGHT = 40, GAP_X = 60, GAP_Y = 16, REFRESH_MS = 10000, SILENT_MS = 180000;
let chosen = null;
let drawn = "";

function element(kind, attributes, ...children) {
  const made = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function graphOf(jobs) {
  const nodes = new Map();
  const dataset = (d) => {
    const id = `dataset:${d.namespace}:${d.name}`;
    if (!nodes.has(id)) nodes.set(id, { id, kind: "dataset", name: d.name, where: d.namespace, before: [], after: [] });
    return nodes.get(id);
  };
  for (const job of jobs) {
    const id = `job:${job.namespace}:${job.name}`;
    const run = job.latestRun;
    const node = { id, kind: "job", name: job.name, where: run ? stateOf(run) : "no run", run, job, before: [], after: [] };
    nodes.set(id, node);
    for (const d of job.inputs) { const from = dataset(d); node.before.push(from); from.after.push(node); }
    for (const d of job.outputs) { const to = dataset(d); node.after.push(to); to.before.push(node); }
  }
  return [...nodes.values()];
}

function stateOf(run) {
  const silent = Date.now() - Date.parse(run.updatedAt);
  return run.state === "RUNNING" && silent > SILENT_MS ? `RUNNING, silent for ${Math.round(silent / 60000)} min` : run.state;
}

// the longest path from a source decides the layer; an edge that closes a cycle does not count
function layers(nodes) {
  const layer = new Map(), open = new Set();
  const layerOf = (node) => {
    if (layer.has(node)) return layer.get(node);
    open.add(node);
    const before = node.before.filter((other) => !open.has(other)).map(layerOf);
    open.delete(node);
    layer.set(node, before.length ? Math.max(...before) + 1 : 0);
    return layer.get(node);
  };
  nodes.forEach(layerOf);
  const columns = [];
  for (const node of [...nodes].sort((a, b) => a.id.localeCompare(b.id))) (columns[layer.get(node)] ||= []).push(node);
  const rows = new Map();
  const mean = (others, own) => (others.length ? others.reduce((sum, o) => sum + rows.get(o), 0) / others.length : own);
  columns.forEach((column) => column.forEach((node, row) => rows.set(node, row)));
  for (let sweep = 0; sweep < 6; sweep++) {
    const side = sweep % 2 ? "after" : "before";
    for (const column of sweep % 2 ? [...columns].reverse() : columns) {
      const wish = new Map(column.map((node) => [node, mean(node[side], rows.get(node))]));
      column.sort((a, b) => wish.get(a) - wish.get(b));
      column.forEach((node, row) => rows.set(node, row));
    }
  }
  return columns;
}

function reach(node, side, found = new Set()) {
  for (const other of node[side]) if (!found.has(other)) { found.add(other); reach(other, side, found); }
  return found;
}

function draw(nodes) {
  const columns = layers(nodes);
  const tallest = Math.max(...columns.map((column) => column.length));
  const height = tallest * (HEIGHT + GAP_Y) + GAP_Y;
  const width = columns.length * (WIDTH + GAP_X);
  columns.forEach((column, x) => column.forEach((node, y) => {
    node.x = x * (WIDTH + GAP_X) + 4;
    node.y = (height - column.length * (HEIGHT + GAP_Y)) / 2 + y * (HEIGHT + GAP_Y) + GAP_Y / 2;
  }));
  const focus = nodes.find((node) => node.id === chosen);
  const near = focus && new Set([focus, ...reach(focus, "before"), ...reach(focus, "after")]);
  const svg = element("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
  for (const from of nodes) for (const to of from.after) {
    const x1 = from.x + WIDTH, y1 = from.y + HEIGHT / 2, x2 = to.x, y2 = to.y + HEIGHT / 2, bend = GAP_X / 2;
    const mark = near ? (near.has(from) && near.has(to) ? " near" : " far") : "";
    svg.append(element("path", { class: `edge${mark}`, d: `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` }));
  }
  for (const node of nodes) {
    const short = node.name.length > 27 ? `${node.name.slice(0, 26)}…` : node.name;
    const title = element("title", {}, `${node.name} (${node.where})`);
    const group = element("g",
      { class: `node ${node.kind} ${node.run ? node.run.state : ""}${near && !near.has(node) ? " far" : ""}`,
        transform: `translate(${node.x} ${node.y})`, tabindex: 0, role: "button" },
      title,
      element("rect", { class: "box", width: WIDTH, height: HEIGHT, rx: node.kind === "job" ? 18 : 3 }),
      element("text", { x: 12, y: 17 }, short),
      element("text", { x: 12, y: 32, class: "where" }, node.where.slice(0, 34)));
    const choose = () => { chosen = chosen === node.id ? null : node.id; draw(nodes); show(chosen ? node : null); };
    group.addEventListener("click", choose);
    group.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } });
    svg.append(group);
  }
  document.getElementById("graph").replaceChildren(svg);
}

function html(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function table(rows) {
  const made = document.createElement("table");
  for (const [name, value] of rows) {
    const row = document.createElement("tr");
    row.append(html("th", name), html("td", value ?? "–"));
    made.append(row);
  }
  return made;
}

async function show(node) {
  const panel = document.getElementById("details");
  if (!node) { panel.replaceChildren(html("p", "Choose a job or a dataset.")); return; }
  if (node.kind === "job") {
    const run = node.run;
    const rows = [["job", node.name], ["type", node.job.type], ["state", run ? stateOf(run) : "no run"], ["run", run?.id],
      ["started", run?.startedAt], ["newest event", run?.updatedAt], ["ended", run?.endedAt],
      ["error", run?.facets.errorMessage?.message]];
    for (const out of run?.outputDatasetVersions ?? []) {
      const counted = out.facets.outputStatistics?.rowCount;
      if (counted !== undefined) rows.push([`rows to ${out.datasetVersionId.name}`, `${counted} in its newest event`]);
    }
    panel.replaceChildren(html("h2", node.name), table(rows.filter(([, value]) => value)));
    return;
  }
  const path = `/api/v1/namespaces/${encodeURIComponent(node.where)}/datasets/${encodeURIComponent(node.name)}`;
  const answer = await fetch(path);
  if (!answer.ok) { panel.replaceChildren(html("p", `${node.name}: ${answer.status}`)); return; }
  const dataset = await answer.json();
  const owners = (dataset.facets.ownership?.owners ?? []).map((owner) => owner.name).join(", ");
  const made = dataset.facets.columnLineage?.fields ?? {};
  const from = (name) => (made[name]?.inputFields ?? []).map((field) => `${field.name} ${field.field}`).join(", ");
  const fields = dataset.fields.map((field) => [field.name, `${field.type ?? ""}${from(field.name) ? ` ← ${from(field.name)}` : ""}`]);
  panel.replaceChildren(html("h2", node.name),
    table([["where", node.where], ["description", dataset.description], ["owner", owners], ["last written", dataset.lastModifiedAt]]
      .filter(([, value]) => value)),
    html("h3", "Fields"), table(fields));
}

async function refresh() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("/api/v1/jobs?limit=1000");
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const jobs = (await answer.json()).jobs;
    const nodes = graphOf(jobs);
    const shape = JSON.stringify(nodes.map((node) => [node.id, node.where]));
    if (nodes.length && shape !== drawn) { drawn = shape; draw(nodes); }
    state.textContent = nodes.length ? `${jobs.length} jobs, ${nodes.length - jobs.length} datasets` : "there are no events yet";
    document.body.classList.remove("stale");
  } catch (error) {
    state.textContent = `no answer: ${error.message}`;
    document.body.classList.add("stale");
  }
}

refresh();
setInterval(refresh, REFRESH_MS);
