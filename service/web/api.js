// The one place that talks to the service. NaN and infinities come as strings; here they become numbers.

import { download } from "./dom.js";

const WORDS = { NaN: NaN, Infinity: Infinity, "-Infinity": -Infinity };
const KEY = "sickbay-token";

export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.detail = error.detail;
  }
}

// The token stays in this browser until its owner signs out, so that a new tab needs no second sign-in.
export function token() {
  return localStorage.getItem(KEY) || "";
}

export function setToken(secret) {
  if (secret) localStorage.setItem(KEY, secret);
  else localStorage.removeItem(KEY);
}

export function headers(more = {}) {
  return token() ? { Authorization: `Bearer ${token()}`, ...more } : more;
}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(
    Object.entries(parameters).filter(([, value]) => value !== "" && value != null),
  );
  const words = query.toString();
  return send(words ? `${path}?${words}` : path, { headers: headers() });
}

export async function post(path, body, type = "application/json") {
  return send(path, { method: "POST", body, headers: headers({ "Content-Type": type }) });
}

async function send(path, options) {
  const answer = await fetch(path, options);
  const text = await answer.text();
  let body;
  try {
    body = JSON.parse(text, (_, value) => (typeof value === "string" && Object.hasOwn(WORDS, value) ? WORDS[value] : value)); // the list ["NaN"] stays one
  } catch {
    body = { error: { message: text.slice(0, 300) || answer.statusText } };
  }
  if (!answer.ok) throw new Refused(answer.status, body.error || { message: answer.statusText });
  return body;
}

export const sweepPath = (sweep, rest = "") => `api/sweeps/${encodeURIComponent(sweep)}${rest}`;

// The report in a tab of its own; where a token is needed, which a link cannot send, as a file.
export async function openReport(event, sweep) {
  if (!token()) return;
  event.preventDefault();
  const answer = await fetch(sweepPath(sweep, "/report"), { headers: headers() });
  if (answer.ok) download(`${sweep}.html`, await answer.text(), "text/html");
}

// Server-sent events with a token: EventSource cannot send one, fetch can.
export function listen(onChange, onState) {
  let last = null;
  let over = false;
  const abort = new AbortController();
  (async () => {
    while (!over) {
      try {
        const more = last === null ? {} : { "Last-Event-ID": String(last) };
        const answer = await fetch("api/events", { headers: headers(more), signal: abort.signal });
        if (answer.status === 401) onState("signed out");
        if (!answer.ok) throw new Error(String(answer.status));
        onState("live");
        let rest = "";
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          const pieces = (rest + value).split("\n\n");
          rest = pieces.pop();
          for (const piece of pieces) {
            const data = piece.match(/^data: (.*)$/m);
            const id = piece.match(/^id: (\d+)$/m);
            if (id) last = Number(id[1]);
            if (data) onChange(JSON.parse(data[1]));
          }
        }
      } catch {
        // the service is away for a moment
      }
      onState("reconnecting");
      await new Promise((done) => setTimeout(done, 2000));
    }
  })();
  return () => {
    over = true;
    abort.abort();
  };
}
