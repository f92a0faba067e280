// The live connection: one WebSocket that comes back by itself and goes on where it was (`since`).

import { parse } from "./exact.js";

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30000;
const SETTLE_MS = 200; // who steps through windows fast asks for the last one only: messages are counted
const POLICY = 1008; // a close code: the server does not want us; asking often does not help

// `on` has the functions hello(frame), snapshot(frame), ranking(set), error(frame) and state(phase).
// Phases: "connecting" before the first snapshot, "live", "waiting" for the next attempt.
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
    const url = new URL("/api/v1/sales/live", location.href);
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
      if (!whole) seq = null; // the place may be what it did not understand: begin anew
      on.error(frame);
    }
  }

  function open() {
    clearTimeout(timer);
    drop();
    whole = false;
    const mine = new WebSocket(address());
    socket = mine;
    mine.onopen = () => mine.send('{"type":"ping"}'); // the heartbeat that answers tells the server's time
    mine.onmessage = (message) => {
      me.heardAt = Date.now();
      watch();
      received(parse(message.data));
    };
    mine.onclose = (event) => {
      me.rejection = event.code === POLICY ? event.reason : "";
      again(event.code === POLICY ? LONGEST_RETRY_MS : 0);
    };
    watch();
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
  // Show other windows: "latest", or a list of start instants.
  me.subscribe = (wanted) => {
    windows = wanted;
    seq = null;
    whole = false;
    clearTimeout(asking);
    asking = setTimeout(() => {
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
