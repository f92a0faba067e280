// What the server has put into the page: the path it is under, whether a token is needed, and the rankings.

export const settings = JSON.parse(document.getElementById("settings").textContent);
