// Amounts by their own digits. A JavaScript number holds 53 bits and would round large totals, so amounts are read as
// text and counted in whole cents.

import { settings } from "./settings.js";

const AMOUNT = /"(totalSales|amount)":\s*(-?\d+(?:\.\d+)?)/g; // inside a JSON text a quote is escaped: never a match

// JSON whose amounts are texts such as "125000.00".
export function parse(text) {
  return JSON.parse(text.replace(AMOUNT, '"$1":"$2"'));
}

export function cents(amount) {
  const [whole, part = ""] = amount.split(".");
  return BigInt(whole + part.padEnd(2, "0"));
}

// Cents as an amount again: -105n is "-1.05".
export function amount(count) {
  const digits = (count < 0n ? -count : count).toString().padStart(3, "0");
  return `${count < 0n ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}

// What part of the greatest amount this is, from 0 to 1.
export function share(part, greatest) {
  return greatest > 0n ? Number((part * 10000n) / greatest) / 10000 : 0;
}

// The body of an answer; an Error with the problem's detail where it is none.
export async function ask(path, parameters) {
  const response = await fetch(`${settings.root}${path}?${new URLSearchParams(parameters)}`, { headers: { Accept: "application/json" } });
  const text = await response.text();
  if (response.ok) return parse(text);
  const isProblem = response.headers.get("content-type")?.includes("json");
  const failure = new Error(isProblem ? JSON.parse(text).detail : `${response.status} ${response.statusText}`);
  failure.status = response.status;
  throw failure;
}
