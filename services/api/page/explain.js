// The dialog with the sales behind a rank, page by page.

import { ask } from "./exact.js";
import { count, money, sales, say, scope, second, span } from "./words.js";

const PAGE = 50;
const DETAILS = ["product", "salesmanName", "city"]; // of a sale; the first two that are not the rank's own are shown
const SOURCES = ["postgres", "files", "legacy"];

// `explain(field, set, entry)` opens the dialog for one entry of a set, whose competitor `field` names.
export function explainer(dialog) {
  const [title, where, sum, state, more] = ["title", "where", "sum", "state", "more"].map((part) => dialog.querySelector(`.${part}`));
  const table = dialog.querySelector("table");
  const body = table.querySelector("tbody");
  let query; // of the rank that is shown; answers for another are late and dropped
  let details;
  let cursor;

  function cell(kind, text) {
    const made = document.createElement(kind === "time" ? "th" : "td");
    made.className = kind;
    made.textContent = text;
    if (kind === "time") made.scope = "row";
    return made;
  }

  function row(sale) {
    const made = document.createElement("tr");
    made.append(
      cell("time", second(new Date(sale.eventTime))),
      cell("first", sale[details[0]]),
      cell("second", sale[details[1]]),
      cell("source", SOURCES.includes(sale.source) ? say(`source.${sale.source}`) : sale.source),
      cell("amount", money(sale.amount)),
    );
    return made;
  }

  async function read() {
    const mine = query;
    state.textContent = say("explain.loading");
    more.disabled = true;
    try {
      const answer = await ask("/api/v1/sales/explain", { ...mine, limit: PAGE, ...(cursor && { cursor }) });
      if (mine !== query) return;
      body.append(...answer.sales.map((sale) => row(sale)));
      cursor = answer.nextCursor;
      table.hidden = false;
      sum.textContent = say("explain.sum", { total: money(answer.totalSales), sales: sales(answer.transactionCount) });
      state.textContent = say("explain.shown", { shown: count(body.children.length), all: count(answer.transactionCount) });
      more.hidden = !cursor;
    } catch (error) {
      if (mine !== query) return;
      state.textContent = error.status === 404 ? say("explain.gone", { name: mine.name }) : say("explain.failed", { detail: error.message });
      more.hidden = error.status === 404;
    }
    more.disabled = false;
  }

  more.addEventListener("click", async () => {
    await read();
    if (more.hidden) dialog.querySelector(".sales").focus();
  });
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  dialog.addEventListener("close", () => {
    query = undefined;
  });

  return function explain(field, set, entry) {
    const name = entry[field];
    details = DETAILS.filter((detail) => detail !== field);
    query = { ranking: set.ranking, name, window: set.window.start, length: set.length, ...(set.country && { country: set.country }) };
    cursor = undefined;
    title.textContent = `${entry.rank}. ${name}`;
    where.textContent = say("explain.of", { window: span(set.window), country: scope(set.country) });
    sum.textContent = "";
    body.replaceChildren();
    table.hidden = true;
    more.hidden = true;
    table.querySelector(".first").textContent = say(`explain.${details[0]}`);
    table.querySelector(".second").textContent = say(`explain.${details[1]}`);
    dialog.showModal();
    return read();
  };
}
