// The live connection: one WebSocket that comes back by itself and goes on where it was (`since`).

import * as choices from "./choices.js";
import { parse } from "./exact.js";
import { settings } from "./settings.js";

const PATH = `${settings.root}/api/v1/sales/live`;
const UNAUTHORIZED = 401;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30000;
const SETTLE_MS = 200; // who steps through windows fast asks for the last one only: messages are counted
const POLICY = 1008; // a close code: the server does not want us; asking often does not help

// `on` has the functions hello(frame), snapshot(frame), ranking(set), error(frame), state(phase) and token(wrong), which
// asks the reader for a token, after a wrong one or for the first time.
// Phases: "connecting" before the first snapshot, "live", "waiting" for the next attempt, "locked" without a token.
export function follow(on) {
  const me = { phase: "connecting", heartbeatMs: 15000, heardAt: Date.now(), retryAt: 0, rejection: "", skewMs: 0 };
  let windows = "latest";
  let seq = null;
  let whole = false; // whether a snapshot of this subscription has come
  let failures = 0;
  let socket;
  let timer;
  let asking;

  function enter(phase) {
    me.phase = phase;
    on.state(phase);
  }

  function address() {
    const url = new URL(PATH, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("windows", windows);
    if (seq !== null) url.searchParams.set("since", seq);
    return url;
  }

  function received(frame) {
    if (frame.type === "hello") {
      me.heartbeatMs = frame.heartbeatSeconds * 1000;
      on.hello(frame);
    } else if (frame.type === "snapshot") {
      seq = frame.seq;
      whole = true;
      failures = 0;
      me.rejection = "";
      on.snapshot(frame);
      enter("live");
    } else if (frame.type === "ranking" && whole) {
      seq = frame.seq;
      on.ranking(frame.set);
    } else if (frame.type === "heartbeat") {
      if (whole) seq = frame.seq;
      me.skewMs = new Date(frame.time) - Date.now();
    } else if (frame.type === "error") {
      if (!whole) seq = null; // it may be what the server did not understand: begin again without
      on.error(frame);
    }
  }

  function open() {
    clearTimeout(timer);
    drop();
    whole = false;
    const token = choices.token();
    if (settings.token && !token) return lock(false);
    const mine = new WebSocket(address(), token ? ["placar.v1", `bearer.${token}`] : []);
    let opened = false;
    socket = mine;
    mine.onopen = () => {
      opened = true;
      mine.send('{"type":"ping"}'); // the heartbeat that answers has the server's time
    };
    mine.onmessage = (message) => {
      me.heardAt = Date.now();
      watch();
      received(parse(message.data));
    };
    mine.onclose = (event) => {
      me.rejection = event.code === POLICY ? event.reason : "";
      if (settings.token && !opened) return verify(token);
      again(event.code === POLICY ? LONGEST_RETRY_MS : 0);
    };
    watch();
  }

  // A browser does not say why a handshake failed; the events, which take the same token, do.
  async function verify(token) {
    drop();
    clearTimeout(timer);
    const headers = { Authorization: `Bearer ${token}` };
    const answer = await fetch(`${PATH}/events`, { method: "HEAD", headers }).catch(() => null);
    if (answer?.status === UNAUTHORIZED) lock(true);
    else again(0);
  }

  function lock(wrong) {
    drop();
    choices.rememberToken(null);
    enter("locked");
    on.token(wrong);
  }

  // A connection that is silent for two heartbeats is dead, whatever the network says.
  function watch() {
    clearTimeout(timer);
    timer = setTimeout(() => again(0), 2 * me.heartbeatMs);
  }

  function drop() {
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    socket = undefined;
  }

  // Try again after a random part of a time that doubles: many pages must not come back at once.
  function again(leastMs) {
    drop();
    clearTimeout(timer);
    const most = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** failures++);
    const wait = Math.max(leastMs, most * (0.5 + Math.random() / 2));
    me.retryAt = Date.now() + wait;
    enter("waiting");
    timer = setTimeout(open, wait);
  }

  me.now = () => Date.now() + me.skewMs; // the server's time
  me.isStale = () => Date.now() - me.heardAt > 2 * me.heartbeatMs;
  me.retry = () => {
    if (me.phase === "waiting") open();
  };
  me.unlock = (token) => {
    choices.rememberToken(token);
    open();
  };
  // Show other windows: "latest", or a list of start instants.
  me.subscribe = (wanted) => {
    windows = wanted;
    seq = null;
    whole = false;
    clearTimeout(asking);
    asking = setTimeout(() => {
      if (me.phase === "locked") return;
      if (socket?.readyState === WebSocket.OPEN) {
        socket.send(JSON.stringify({ type: "subscribe", windows: wanted === "latest" ? wanted : [wanted] }));
      } else {
        open();
      }
    }, SETTLE_MS);
  };
  addEventListener("online", me.retry);
  document.addEventListener("visibilitychange", () => document.hidden || me.retry());
  me.start = open;
  return me;
}
