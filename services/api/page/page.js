// Shows both current rankings and asks for them again every two seconds.
"use strict";

const EVERY_MS = 2000;
const BOARDS = [
  { id: "cities", url: "/api/v1/sales/top-by-city?window=latest", name: "city" },
  { id: "salesmen", url: "/api/v1/sales/top-salesman?window=latest&country=BR", name: "salesmanName" },
];

// An amount is shown from its own digits: a JavaScript number would round large totals.
function amounts(text) {
  return [...text.matchAll(/"totalSales":(-?\d+\.\d\d)/g)].map((match) => {
    const [whole, cents] = match[1].split(".");
    return whole.replace(/\B(?=(\d{3})+$)/g, ".") + "," + cents;
  });
}

function show(board, answer, totals) {
  const rows = answer.rankings.map((entry, index) => {
    const row = document.createElement("tr");
    for (const value of [entry.rank, entry[board.name], totals[index], entry.transactionCount]) {
      row.appendChild(document.createElement("td")).textContent = value;
    }
    return row;
  });
  document.getElementById(board.id).replaceChildren(...rows);
  document.getElementById(board.id + "-window").textContent =
    `${answer.window.start} to ${answer.window.end}, ${answer.status}, as of ${answer.asOf}` +
    (rows.length ? "" : ": no sales");
}

async function refresh(board) {
  const response = await fetch(board.url, { headers: { Accept: "application/json" } });
  const text = await response.text();
  const answer = JSON.parse(text);
  if (response.status === 404) {
    document.getElementById(board.id).replaceChildren();
    document.getElementById(board.id + "-window").textContent = answer.detail;
  } else if (response.ok) {
    show(board, answer, amounts(text));
  } else {
    throw new Error(answer.detail);
  }
}

async function tick() {
  const state = document.getElementById("state");
  try {
    await Promise.all(BOARDS.map(refresh));
    state.textContent = "live";
    document.querySelector("main").classList.remove("stale");
  } catch (error) {
    state.textContent = `not live: ${error.message}`;
    document.querySelector("main").classList.add("stale");
  }
  setTimeout(tick, EVERY_MS);
}

tick();
