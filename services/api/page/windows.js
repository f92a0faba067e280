// The window picker: the newest window, live, or one of those before it.

import { ask } from "./exact.js";
import { settings } from "./settings.js";
import { day, hours, say } from "./words.js";

const PAGE = 48;
const BEHIND_MS = 3000; // ClickHouse has a new window later than the live stream, and answers are shared for a moment

// Begins with `picked`: "latest" or a start instant; `pick(one of them)` is called when the reader chooses.
export function windows(root, picked, pick) {
  const select = root.querySelector("select");
  const [previous, next, live] = ["previous", "next", "live"].map((id) => root.querySelector(`[data-step=${id}]`));
  let known = []; // newest first
  let cursor;
  let length;
  let newest = null; // the window that `latest` is now
  let failure = "";
  let again; // the timer of the next reading of a list that is behind

  function option(value, text) {
    const made = document.createElement("option");
    made.value = value;
    made.textContent = text;
    return made;
  }

  // Starts from the newest on; the reader's own is among them also where its page has not been read.
  function starts() {
    const all = known.map((one) => one.start);
    if (picked !== "latest" && !all.includes(picked)) all.push(picked);
    return all;
  }

  function render() {
    const groups = new Map();
    for (const one of known) {
      const title = day(new Date(one.start));
      if (!groups.has(title)) groups.set(title, []);
      groups.get(title).push(option(one.start, `${title}, ${hours(one)}`));
    }
    const made = [...groups].map(([title, options]) => {
      const group = document.createElement("optgroup");
      group.label = title;
      group.append(...options);
      return group;
    });
    if (picked !== "latest" && !known.some((one) => one.start === picked)) made.push(option(picked, new Date(picked).toLocaleString(document.documentElement.lang)));
    if (cursor) made.push(option("older", say("window.older")));
    select.replaceChildren(option("latest", say("window.latest")), ...made);
    select.value = picked;
    select.title = failure && say("window.unavailable", { detail: failure });
    const index = starts().indexOf(picked === "latest" ? newest : picked);
    previous.disabled = index < 0 || (index + 1 >= starts().length && !cursor);
    next.disabled = picked === "latest";
    live.hidden = picked === "latest";
  }

  async function read(from) {
    clearTimeout(again);
    const query = { ranking: settings.rankings[0].name, length, limit: PAGE, ...(from && { cursor: from }) };
    const answer = await ask("/api/v1/windows", query).catch((error) => error);
    failure = answer instanceof Error ? answer.message : "";
    if (!failure) {
      const page = answer.windows;
      // a first page may be newer than what is known: what lies behind it stays
      const behind = known.filter((one) => page.length && one.start < page.at(-1).start);
      known = from ? [...known, ...page] : [...page, ...behind];
      if (from || !behind.length) cursor = answer.nextCursor;
    }
    clearTimeout(again);
    if (failure || (newest && !known.some((one) => one.start === newest))) again = setTimeout(read, BEHIND_MS);
    render();
  }

  function choose(value) {
    picked = value;
    render();
    pick(value);
  }

  async function step(by) {
    const index = starts().indexOf(picked === "latest" ? newest : picked) + by;
    if (index < 0) return choose("latest");
    if (index >= starts().length && cursor) await read(cursor);
    if (starts()[index]) choose(starts()[index] === newest ? "latest" : starts()[index]);
  }

  select.addEventListener("change", async () => {
    if (select.value === "older") await read(cursor);
    else choose(select.value);
  });
  previous.addEventListener("click", () => step(1));
  next.addEventListener("click", () => step(-1));
  live.addEventListener("click", () => {
    choose("latest");
    select.focus();
  });

  return {
    render,
    // Read the list again: at the start and when windows of another length are shown.
    load(of) {
      length = of;
      return read();
    },
    // The newest window is this one; a new one changes the list.
    latest(start) {
      if (newest === start) return;
      newest = start;
      if (length) read();
    },
  };
}
