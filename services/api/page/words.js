// Everything the page shows, in its two languages, and how each writes amounts, numbers and times.

const WORDS = {
  en: {
    "skip": "Skip to the rankings",
    "tagline": "Live sales rankings",
    "language": "Language",
    "theme.dark": "Switch to the dark theme",
    "theme.light": "Switch to the light theme",
    "everywhere": "All countries",
    "rank": "Rank",
    "sales": "Sales",
    "total": "Total",
    "sales.one": "{n} sale",
    "sales.other": "{n} sales",
    "explain.hint": "Shows the sales behind this rank",
    "move.new": "new",
    "window": "Window",
    "window.latest": "Live · now",
    "window.previous": "Previous window",
    "window.next": "Next window",
    "window.older": "Older windows…",
    "window.live": "Back to live",
    "window.unavailable": "The list of windows is not available: {detail}",
    "status.provisional": "Provisional",
    "status.final": "Final",
    "status.corrected": "Corrected",
    "status.provisional.why": "This window is still open, or its last sales may still be on their way. The ranking changes with every sale.",
    "status.final.why": "The window is over and its sales are in. The ranking changes only if a sale is corrected, cancelled or arrives late.",
    "status.corrected.why": "The window was final; then a sale was changed, cancelled or arrived late. The ranking shown includes the correction.",
    "asOf": "as of {ago}",
    "ended": "no sales since this window ended {ago}",
    "live.connecting": "Connecting…",
    "live.live": "Connected",
    "live.waiting": "Reconnecting…",
    "live.locked": "Token needed",
    "live.stale": "Not up to date",
    "live.why": "Changes appear as they happen. When there are none, the server sends a heartbeat every {heartbeat} s; after {limit} s of silence the page turns grey, because what it shows may be out of date. It reconnects on its own and catches up on what it missed. An hour without sales is normal: the page keeps its colours.",
    "live.checked": "checked {ago}",
    "problem.unavailable": "The server cannot be reached. The page reconnects on its own.",
    "problem.again": "Next attempt in {n} s.",
    "problem.rejected": "The server does not accept this page: {detail}",
    "retry": "Try now",
    "token.title": "Token needed",
    "token.why": "The live rankings are open to readers with a token. Ask whoever runs Placar for it; it is kept until you close this tab.",
    "token.wrong": "The server does not accept this token. Check it and try again.",
    "token.label": "Token",
    "token.connect": "Connect",
    "empty": "No sales in this window yet.",
    "empty.hint": "The first one will appear here on its own.",
    "explain.of": "{window} · {country}",
    "explain.sum": "{total} in {sales}",
    "explain.time": "Time",
    "explain.product": "Product",
    "explain.city": "City",
    "explain.salesmanName": "Salesperson",
    "explain.source": "Source",
    "explain.amount": "Amount",
    "explain.more": "Show more",
    "explain.shown": "{shown} of {all} shown",
    "explain.loading": "Loading the sales…",
    "explain.gone": "There is no sale of {name} in this window any more.",
    "explain.failed": "The sales could not be loaded: {detail}",
    "close": "Close",
    "source.postgres": "Database",
    "source.files": "File",
    "source.legacy": "Legacy ERP",
    "news.lead": "{title}: {name} leads with {total}",
    "news.rise": "{name} rises to {rank}",
    "news.window": "{title}: a new window, {window}",
    "footer.api": "API description",
    "footer.health": "Health",
    "footer.metrics": "Metrics",
  },
  "pt-BR": {
    "skip": "Ir para os rankings",
    "tagline": "Rankings de vendas ao vivo",
    "language": "Idioma",
    "theme.dark": "Mudar para o tema escuro",
    "theme.light": "Mudar para o tema claro",
    "everywhere": "Todos os países",
    "rank": "Posição",
    "sales": "Vendas",
    "total": "Total",
    "sales.one": "{n} venda",
    "sales.other": "{n} vendas",
    "explain.hint": "Mostra as vendas desta posição",
    "move.new": "novo",
    "window": "Janela",
    "window.latest": "Ao vivo · agora",
    "window.previous": "Janela anterior",
    "window.next": "Próxima janela",
    "window.older": "Janelas mais antigas…",
    "window.live": "Voltar ao vivo",
    "window.unavailable": "A lista de janelas não está disponível: {detail}",
    "status.provisional": "Provisório",
    "status.final": "Final",
    "status.corrected": "Corrigido",
    "status.provisional.why": "Esta janela ainda está aberta, ou vendas dos seus últimos instantes podem estar a caminho. O ranking muda a cada venda.",
    "status.final.why": "A janela terminou e todas as vendas esperadas já chegaram. O ranking só muda se uma venda for corrigida, cancelada ou chegar atrasada.",
    "status.corrected.why": "A janela já era final quando uma venda foi alterada, cancelada ou chegou atrasada. O ranking exibido já inclui a correção.",
    "asOf": "atualizado {ago}",
    "ended": "nenhuma venda desde o fim desta janela, {ago}",
    "live.connecting": "Conectando…",
    "live.live": "Conectado",
    "live.waiting": "Reconectando…",
    "live.locked": "Requer token",
    "live.stale": "Desatualizado",
    "live.why": "As mudanças aparecem na hora. Quando não há nenhuma, o servidor envia um sinal a cada {heartbeat} s; após {limit} s de silêncio a página fica cinza, pois o que ela mostra pode estar desatualizado. Ela se reconecta sozinha e recupera o que perdeu. Uma hora sem vendas é normal: a página mantém as cores.",
    "live.checked": "verificado {ago}",
    "problem.unavailable": "O servidor não responde. A página se reconecta sozinha.",
    "problem.again": "Próxima tentativa em {n} s.",
    "problem.rejected": "O servidor não aceita esta página: {detail}",
    "retry": "Tentar agora",
    "token.title": "É preciso um token",
    "token.why": "Os rankings ao vivo são abertos a quem tem um token. Peça-o a quem administra o Placar; ele fica guardado até você fechar esta aba.",
    "token.wrong": "O servidor não aceita este token. Confira e tente de novo.",
    "token.label": "Token",
    "token.connect": "Conectar",
    "empty": "Ainda não há vendas nesta janela.",
    "empty.hint": "A primeira aparecerá aqui sozinha.",
    "explain.of": "{window} · {country}",
    "explain.sum": "{total} em {sales}",
    "explain.time": "Hora",
    "explain.product": "Produto",
    "explain.city": "Cidade",
    "explain.salesmanName": "Vendedor",
    "explain.source": "Origem",
    "explain.amount": "Valor",
    "explain.more": "Mostrar mais",
    "explain.shown": "{shown} de {all} mostradas",
    "explain.loading": "Carregando as vendas…",
    "explain.gone": "Não há mais vendas de {name} nesta janela.",
    "explain.failed": "Não foi possível carregar as vendas: {detail}",
    "close": "Fechar",
    "source.postgres": "Banco de dados",
    "source.files": "Arquivo",
    "source.legacy": "ERP legado",
    "news.lead": "{title}: {name} lidera com {total}",
    "news.rise": "{name} sobe para {rank}",
    "news.window": "{title}: nova janela, {window}",
    "footer.api": "Descrição da API",
    "footer.health": "Saúde",
    "footer.metrics": "Métricas",
  },
};

export const LANGUAGES = Object.keys(WORDS);

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

let words;
let formats;
export let language;

export function speak(chosen) {
  language = chosen;
  words = WORDS[chosen];
  const money = { style: "currency", currency: "BRL" };
  formats = {
    money: new Intl.NumberFormat(chosen, money),
    change: new Intl.NumberFormat(chosen, { ...money, signDisplay: "always" }),
    count: new Intl.NumberFormat(chosen),
    plural: new Intl.PluralRules(chosen),
    country: new Intl.DisplayNames(chosen, { type: "region" }),
    ago: new Intl.RelativeTimeFormat(chosen, { numeric: "auto", style: "short" }),
    day: new Intl.DateTimeFormat(chosen, { weekday: "short", day: "numeric", month: "short" }),
    date: new Intl.DateTimeFormat(chosen, { weekday: "short", day: "numeric", month: "short", year: "numeric" }),
    hour: new Intl.DateTimeFormat(chosen, { hour: "2-digit", minute: "2-digit" }),
    second: new Intl.DateTimeFormat(chosen, { hour: "2-digit", minute: "2-digit", second: "2-digit" }),
  };
}

export function say(key, values = {}) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// A text by language, such as the title of a ranking: "en", "pt".
export const translated = (texts) => texts[language.split("-")[0]] ?? texts.en;
// Whose sales are ranked: a country's by name, or everybody's.
export const scope = (country) => (country ? formats.country.of(country) : say("everywhere"));
// Amounts are texts: Intl formats a decimal text digit by digit, without a float between.
export const money = (text) => formats.money.format(text);
export const change = (text) => formats.change.format(text);
export const count = (number) => formats.count.format(number);
export const sales = (number) => say(`sales.${formats.plural.select(number) === "one" ? "one" : "other"}`, { n: count(number) });
export const day = (instant) => formats.day.format(instant);
export const second = (instant) => formats.second.format(instant);

export function ago(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? ["second", 1];
  return formats.ago.format(-Math.floor(seconds / size), unit);
}

// Fri, Feb 20, 2026, 11:00–12:00; only the dates where a window spans days.
export function span(window) {
  const [start, end] = [new Date(window.start), new Date(window.end)];
  if (end - start >= 82800000) return formats.date.format(start); // 23 hours: a day when clocks are put forward
  return `${formats.date.format(start)}, ${hours(window)}`;
}

export function hours(window) {
  const [start, end] = [new Date(window.start), new Date(window.end)];
  if (end - start >= 82800000) return formats.day.format(start);
  return `${formats.hour.format(start)}–${formats.hour.format(end)}`;
}
