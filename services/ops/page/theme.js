// Sets the chosen theme before the first paint. Not a module, because modules run after it.
"use strict";
try {
  const chosen = localStorage.getItem("placar.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch (error) {
  console.info("the theme is not remembered:", error.message);
}
