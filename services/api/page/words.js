// Everything the page says, in its two languages, and how each writes amounts, numbers and times.

const WORDS = {
  en: {
    "skip": "Skip to the rankings",
    "tagline": "Live sales rankings",
    "language": "Language",
    "theme.dark": "Switch to the dark theme",
    "theme.light": "Switch to the light theme",
    "city.title": "Top cities",
    "city.where": "All countries",
    "city.name": "City",
    "salesman.title": "Top salespeople",
    "salesman.where": "Brazil",
    "salesman.name": "Salesperson",
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
    "window.away": "The list of windows is not available: {detail}",
    "status.provisional": "Provisional",
    "status.final": "Final",
    "status.corrected": "Corrected",
    "status.provisional.why": "This window is still open, or sales of its last moments may be on their way. The ranking changes with every sale.",
    "status.final.why": "The window is over and the sales expected for it are in. It changes only if a sale is corrected, cancelled or arrives late.",
    "status.corrected.why": "The window was final, and then a sale was changed, cancelled or arrived late. What you see includes the correction.",
    "asOf": "as of {ago}",
    "ended": "no newer sale since this window ended {ago}",
    "live.connecting": "Connecting…",
    "live.live": "Connected",
    "live.waiting": "Reconnecting…",
    "live.stale": "Not up to date",
    "live.why": "Every change arrives by itself. Without news the server sends a sign of life every {heartbeat} s; after {limit} s without one the page turns grey, because what it shows may be old. It reconnects by itself and catches up on what it missed. An hour without sales is not a fault: the page stays in colour.",
    "live.checked": "last heard {ago}",
    "problem.away": "The server cannot be reached. The page reconnects by itself.",
    "problem.again": "Next attempt in {n} s.",
    "problem.rejected": "The server does not accept this page: {detail}",
    "retry": "Try now",
    "empty": "No sales in this window yet.",
    "empty.hint": "The first one will show up here by itself.",
    "explain.of": "{window} · {country}",
    "explain.everywhere": "all countries",
    "explain.sum": "{total} in {sales}",
    "explain.time": "Time",
    "explain.product": "Product",
    "explain.city": "City",
    "explain.salesman": "Salesperson",
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
    "city.title": "Melhores cidades",
    "city.where": "Todos os países",
    "city.name": "Cidade",
    "salesman.title": "Melhores vendedores",
    "salesman.where": "Brasil",
    "salesman.name": "Vendedor",
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
    "window.away": "A lista de janelas não está disponível: {detail}",
    "status.provisional": "Provisório",
    "status.final": "Final",
    "status.corrected": "Corrigido",
    "status.provisional.why": "Esta janela ainda está aberta, ou vendas dos seus últimos instantes podem estar a caminho. O ranking muda a cada venda.",
    "status.final.why": "A janela terminou e as vendas esperadas chegaram. Só muda se uma venda for corrigida, cancelada ou chegar atrasada.",
    "status.corrected.why": "A janela era final e depois uma venda foi alterada, cancelada ou chegou atrasada. O que você vê já inclui a correção.",
    "asOf": "atualizado {ago}",
    "ended": "nenhuma venda mais nova desde o fim desta janela, {ago}",
    "live.connecting": "Conectando…",
    "live.live": "Conectado",
    "live.waiting": "Reconectando…",
    "live.stale": "Desatualizado",
    "live.why": "Cada mudança chega sozinha. Sem novidades, o servidor dá um sinal de vida a cada {heartbeat} s; depois de {limit} s sem sinal a página fica cinza, pois o que ela mostra pode estar velho. Ela se reconecta sozinha e recupera o que perdeu. Uma hora sem vendas não é uma falha: a página mantém as cores.",
    "live.checked": "último sinal {ago}",
    "problem.away": "O servidor não responde. A página se reconecta sozinha.",
    "problem.again": "Próxima tentativa em {n} s.",
    "problem.rejected": "O servidor não aceita esta página: {detail}",
    "retry": "Tentar agora",
    "empty": "Ainda não há vendas nesta janela.",
    "empty.hint": "A primeira aparecerá aqui sozinha.",
    "explain.of": "{window} · {country}",
    "explain.everywhere": "todos os países",
    "explain.sum": "{total} em {sales}",
    "explain.time": "Hora",
    "explain.product": "Produto",
    "explain.city": "Cidade",
    "explain.salesman": "Vendedor",
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
