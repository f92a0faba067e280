// What the reader chose, kept in the browser where it lets us: language and theme for good, a token for the session.

const system = matchMedia("(prefers-color-scheme: dark)");

function recall(name, store = "localStorage") {
  try {
    return window[store].getItem(`placar.${name}`);
  } catch {
    return null; // storage is forbidden: a choice lasts as long as the page
  }
}

function remember(name, value, store = "localStorage") {
  try {
    if (value === null) window[store].removeItem(`placar.${name}`);
    else window[store].setItem(`placar.${name}`, value);
  } catch (error) {
    console.info("choices are not remembered here:", error.message);
  }
}

// The remembered language, else the first of the browser's that we have, else English.
export function language(known) {
  const chosen = recall("language");
  if (known.includes(chosen)) return chosen;
  for (const wanted of navigator.languages) {
    const match = known.find((one) => one.split("-")[0] === wanted.split("-")[0]);
    if (match) return match;
  }
  return "en";
}

export function rememberLanguage(chosen) {
  remember("language", chosen);
}

export const token = () => recall("token", "sessionStorage");

// Forgets the token where it is null.
export function rememberToken(value) {
  remember("token", value, "sessionStorage");
}

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : system.matches;
}

// A choice that equals the system's is forgotten, so that the page follows the system again.
export function switchTheme() {
  const chosen = isDark() ? "light" : "dark";
  if ((chosen === "dark") === system.matches) {
    delete document.documentElement.dataset.theme;
    remember("theme", null);
  } else {
    document.documentElement.dataset.theme = chosen;
    remember("theme", chosen);
  }
}
