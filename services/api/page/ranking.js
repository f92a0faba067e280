// One ranking as a table whose rows move: what changed, and by how much, since the revision shown before.

import { amount, cents, share } from "./exact.js";
import { change, count, money, sales, say } from "./words.js";

const MOVE = { duration: 600, easing: "cubic-bezier(.2, .8, .2, 1)" };
const MARK_MS = 8000; // how long a change stays marked

const still = matchMedia("(prefers-reduced-motion: reduce)");

// What is different for each competitor of `set` (named by `field`): whether it is new, ranks it rose (or fell, below
// zero), cents it gained. Nothing where `before` is another window: a new hour is not a change of the last one.
export function changes(before, set, field) {
  const changed = new Map();
  if (before?.window.start !== set.window.start) return changed;
  const old = new Map(before.rankings.map((entry) => [entry[field], entry]));
  for (const entry of set.rankings) {
    const was = old.get(entry[field]);
    changed.set(entry[field], {
      isNew: !was,
      rose: was ? was.rank - entry.rank : 0,
      gained: was ? cents(entry.totalSales) - cents(was.totalSales) : 0n,
    });
  }
  return changed;
}

function animate(element, frames, options) {
  if (!still.matches) element.animate(frames, options);
}

function mark(element, text, kind) {
  element.getAnimations().forEach((animation) => animation.cancel());
  element.textContent = text;
  element.dataset.kind = kind;
  element.animate([{ opacity: 1 }, { opacity: 1, offset: 0.7 }, { opacity: 0 }], { duration: MARK_MS }).onfinish = () => {
    element.textContent = "";
  };
}

// Puts the rows in this order. The row that has the focus stays in the document, so that it keeps the focus.
function arrange(body, rows) {
  if (rows.every((row, index) => body.children[index] === row) && body.children.length === rows.length) return;
  const kept = rows.find((row) => row.contains(document.activeElement));
  for (const row of [...body.children]) if (!rows.includes(row)) row.remove();
  let before = kept ?? null;
  for (const row of rows) {
    if (row === kept) before = null;
    else body.insertBefore(row, before);
  }
}

// A section with the table of one ranking, whose competitors `field` names; `explain(entry)` is called when a rank is
// chosen.
export function ranking({ name, field }, explain) {
  const section = document.getElementById("ranking").content.firstElementChild.cloneNode(true);
  section.dataset.ranking = name;
  section.querySelector("h2").id = `${name}-title`;
  for (const each of [section, section.querySelector("table")]) each.setAttribute("aria-labelledby", `${name}-title`);
  const body = section.querySelector("tbody");
  const empty = section.querySelector(".empty");
  const template = document.getElementById("row");
  const rows = new Map();

  function made(key) {
    const row = template.content.firstElementChild.cloneNode(true);
    row.querySelector("button").addEventListener("click", () => explain(row.entry));
    rows.set(key, row);
    return row;
  }

  function write(row, entry, greatest) {
    row.entry = entry;
    row.share = share(cents(entry.totalSales), greatest);
    row.querySelector(".number").textContent = entry.rank;
    row.querySelector("button").textContent = entry[field];
    row.querySelector(".count").textContent = sales(entry.transactionCount);
    row.querySelector(".amount").textContent = money(entry.totalSales);
    row.style.setProperty("--share", row.share);
    row.classList.toggle("first", entry.rank === 1);
  }

  function highlight(row, changed) {
    if (changed.isNew) mark(row.querySelector(".move"), say("move.new"), "up");
    else if (changed.rose) {
      mark(row.querySelector(".move"), `${changed.rose > 0 ? "▲" : "▼"}${count(Math.abs(changed.rose))}`, changed.rose > 0 ? "up" : "down");
    }
    if (changed.gained) mark(row.querySelector(".delta"), change(amount(changed.gained)), changed.gained > 0n ? "up" : "down");
  }

  function clear() {
    rows.clear();
    body.replaceChildren();
  }

  // Nothing is known yet.
  function wait() {
    clear();
    section.setAttribute("aria-busy", "true");
    empty.hidden = true;
  }

  // Show a set, or with null that there is none; `changed` as changes() gives it.
  function show(set, changed = new Map()) {
    section.setAttribute("aria-busy", "false");
    const entries = set?.rankings ?? [];
    empty.hidden = entries.length > 0;
    const before = new Map([...rows].map(([key, row]) => [key, { top: row.offsetTop, share: row.share }]));
    const greatest = entries.length ? cents(entries[0].totalSales) : 0n;
    const ordered = entries.map((entry) => {
      const row = rows.get(entry[field]) ?? made(entry[field]);
      write(row, entry, greatest);
      return row;
    });
    for (const [key, row] of rows) if (!ordered.includes(row)) rows.delete(key);
    arrange(body, ordered);
    for (const [key, row] of rows) {
      const was = before.get(key);
      const down = was ? was.top - row.offsetTop : 0;
      if (down) animate(row, [{ transform: `translateY(${down}px)` }, { transform: "none" }], MOVE);
      if (was && was.share !== row.share) {
        const frames = [was.share, row.share].map((part) => ({ width: `calc(${part} * (100% - var(--room)))` }));
        animate(row, frames, { ...MOVE, pseudoElement: "::before" });
      }
      if (!was && before.size) animate(row, [{ opacity: 0, transform: "translateY(1rem)" }, {}], MOVE);
      if (changed.has(key)) highlight(row, changed.get(key));
    }
  }

  return { section, wait, show };
}
