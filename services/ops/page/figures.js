// Formats values: a number and its unit.

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];
const TIMES = [["d", 86400, 172800], ["h", 3600, 7200], ["min", 60, 120], ["s", 1, 1], ["ms", 0.001, 0]]; // unit, its seconds, from
const EXACT = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function short(value) {
  return Math.abs(value) >= 100 ? WHOLE.format(value) : EXACT.format(value);
}

// [number, unit] of a value; the number is a dash where there is no value.
export function figure(measure, value) {
  if (value === undefined) return ["–", "no data"];
  if (measure === "up") return [value === 1 ? "up" : "down", ""];
  if (measure === "share") return [short(value * 100), "%"];
  if (measure === "seconds") {
    if (value === 0) return ["0", "s"];
    const [unit, size] = TIMES.find(([, , from]) => Math.abs(value) >= from);
    return [short(value / size), unit];
  }
  if (measure === "bytes") {
    const step = Math.min(SIZES.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, value)) / 10)));
    return [short(value / 1024 ** step), SIZES[step]];
  }
  return [short(value), value === 1 ? measure.replace(/s(?=$|\/)/, "") : measure];
}

// A value of a series: without the unit that the headline has, unless it depends on the size.
export function formatted(measure, value) {
  const [number, unit] = figure(measure, value);
  return ["seconds", "bytes", "share"].includes(measure) && value !== undefined ? `${number} ${unit}` : number;
}

// The panel's headline: the worst value of its series, or how many of them are up.
export function headline(panel) {
  const known = panel.series.filter((one) => one.value !== undefined);
  if (panel.measure !== "up" || known.length < 2) return figure(panel.measure, panel.value);
  return [`${known.filter((one) => one.value === 1).length} of ${panel.series.length}`, "up"];
}

// A duration in milliseconds as "3 min".
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const [unit, size] = TIMES.find(([, whole, from]) => whole >= 1 && seconds >= from) ?? ["s", 1];
  return `${Math.floor(seconds / size)} ${unit}`;
}
