// What the server's pages cannot do by themselves: times that pass, what changes elsewhere, acts, keys.
"use strict";

const CSRF = document.querySelector("meta[name=csrf-token]").content;
const STREAM = "/api/admin/fulfillment/stream?rows=brief";
const POLL_MS = 30000;
const PATIENCE_MS = 60000;
const AGAIN_MS = 3000;
const READY_MS = 5000;
const MOST = 9999;
const FRESHEN_MS = 2000;
const PAGE = document.body.dataset.page;
const LIVE = ["orders", "order", "review"];
const FRESH = ["providers", "health"];
const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function say(text) {
  const said = one("#said");
  said.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (said.textContent = ""), 6000);
}

// --- times ---------------------------------------------------------------------------------------------------------

// Seconds are for what is waited for.
function spoken(seconds, waited) {
  const s = Math.round(Math.abs(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${waited ? ` ${s % 60} s` : ""}`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

// As people say it; exactly, in UTC and here, where one points at it.
function tellTimes() {
  const now = Date.now();
  for (const time of all("time[datetime]")) {
    const at = Date.parse(time.dateTime);
    if (Number.isNaN(at)) continue;
    time.title = `${new Date(at).toISOString()}, here ${new Date(at).toLocaleString()}`;
    const seconds = (at - now) / 1000;
    let text;
    if ("ago" in time.dataset) text = spoken(seconds);
    else if ("in" in time.dataset) text = seconds > 0 ? `in ${spoken(seconds, true)}` : "now";
    else text = seconds > 0 ? `in ${spoken(seconds)}` : `${spoken(seconds)} ago`;
    if (time.textContent !== text) time.textContent = text;
  }
}

// --- acts ----------------------------------------------------------------------------------------------------------

// A server that is away is an answer like another: the page stays, and looks again later.
const AWAY = { ok: false, status: 0, json: async () => ({ detail: "The gateway cannot be reached now" }), text: async () => "" };
const got = (address, options = {}) => fetch(address, { signal: AbortSignal.timeout(PATIENCE_MS), ...options }).catch(() => AWAY);

async function send(path, content, method = "POST") {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": CSRF, Prefer: "wait=2" };
  const answer = await got(path, { method, headers, body: method === "DELETE" ? undefined : JSON.stringify(content) });
  const said = await answer.json().catch(() => ({}));
  return { status: answer.status, ok: answer.ok, said };
}

const ADMIN = "/api/admin/fulfillment";
const REQUESTS = {
  retry: (id, reason) => ["/api/orders/fulfillment", { action: "retry", orderId: id, reason }],
  trigger: (id, reason) => ["/api/orders/fulfillment", { action: "trigger", orderId: id, reason }],
  "resolve-delivered": (id, reason) => [`${ADMIN}/${id}/resolve`, { delivered: true, reason }],
  "resolve-failed": (id, reason) => [`${ADMIN}/${id}/resolve`, { delivered: false, reason }],
  override: (id, reason) => [`${ADMIN}/${id}/override`, { reason }],
  cancel: (id, reason) => [`${ADMIN}/${id}/cancel`, { reason }],
};
const UNASKED = new Set(["retry", "trigger"]);

// Resolves with the reason, "" where none is asked for, or null: not to be done.
function ask(label, about, { explained = true, lines = [], possible = true } = {}) {
  const dialog = one("#ask");
  one("#ask-title").textContent = label;
  one("#ask-about").textContent = about;
  one("#ask-yes").textContent = label;
  one("#ask-yes").hidden = !possible;
  one("#ask-lines").replaceChildren(...lines.map((text) => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  }));
  one("#ask-why").hidden = !explained || !possible;
  const reason = one("#ask-reason");
  reason.value = "";
  reason.required = explained && possible;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? reason.value.trim() : null), { once: true }),
  );
}

async function act(button) {
  if (button.getAttribute("aria-disabled") === "true") return say(button.title);
  const id = button.closest("[data-order]").dataset.order;
  const name = button.dataset.act;
  const reason = UNASKED.has(name) ? "by the dashboard" : await ask(button.dataset.label, button.dataset.about, { lines: [`Order ${id}`] });
  if (!reason) return;
  button.disabled = true;
  say(`${button.dataset.label}: sent`);
  const { status, ok, said } = await send(...REQUESTS[name](id, reason));
  say(ok ? said.message || (status === 202 ? "Accepted: it shows here when it has happened" : "Done") : said.detail || `Refused (${status})`);
  button.disabled = false;
  await look([id], true);
}

// A form that says which call of the API it is: its fields are the object, what is left empty is not said.
async function call(form) {
  const [method, path] = form.dataset.api.split(" ");
  const content = {};
  if (form.dataset.confirm) {
    const reason = await ask(form.dataset.label, form.dataset.confirm, { explained: "reason" in form.dataset });
    if (reason === null) return;
    if (reason) content.reason = reason;
  }
  for (const field of form.elements) {
    if (!field.name || !field.value || ("json" in field.dataset && field.type === "checkbox" && !field.checked)) continue;
    if ("json" in field.dataset) content[field.name] = JSON.parse(field.value);
    else content[field.name] = field.type === "date" ? `${field.value}T00:00:00Z` : field.value;
  }
  const button = one("button", form);
  button.disabled = true;
  const { ok, status, said } = await send(path, content, method);
  button.disabled = false;
  one(".fault", form).textContent = ok ? "" : said.detail || `Refused (${status})`;
  if (!ok && !form.isConnected) say(said.detail || `Refused (${status})`);
  if (!ok) return;
  if (said.token) await shownOnce(said.token);
  await reload();
  say(said.message || (status === 202 ? "Accepted: it shows here when it has happened" : "Done"));
}

// Acts on many are shown before they are done: the same call, first dry.
const WORDS = {
  replayed: "sent back", replayable: "can be sent back", already_replayed: "were sent back before", under_way: "somebody is sending back now",
  impossible: "can never be acted on", not_yet: "would be refused now", needless: "ask for what is there already",
  unknown: "are not known", not_written: "did not reach Kafka", perhaps: "may have reached Kafka: to try again is safe",
};
const PREVIEWS = {
  replay: {
    path: "/api/admin/dead-letters/replay",
    label: "Send back",
    about: "Key, value and headers go back to their topic as they were. What fails again is a new dead letter.",
    chosen: (ids) => ({ ids }),
    lines: ({ counts, items, next }) => [
      ...Object.entries(counts).map(([outcome, count]) => `${count} ${WORDS[outcome] ?? outcome}`),
      ...items.filter((item) => item.why).slice(0, 5).map((item) => `${item.id}: ${item.why}`),
      ...(next ? ["There are more behind these: send them back in turn."] : []),
    ],
    possible: ({ counts }) => counts.replayable > 0,
  },
  retry: {
    path: `${ADMIN}/retry`,
    label: "Retry them",
    about: "A few are tried first; the others follow at a steady pace unless too many of those fail. An order in doubt is never sent again.",
    chosen: (orderIds) => ({ orderIds }),
    lines: ({ preview: { matched, safe, inDoubt, notEligible, why, unknown } }) => [
      `${safe.orders} of ${matched} can be retried: ${safe.sizeMb.toLocaleString()} MB, price ${safe.price.toLocaleString()}${safe.withoutPrice ? ` and ${safe.withoutPrice} without a price` : ""}`,
      ...(safe.oldest ? [`made between ${new Date(safe.oldest).toLocaleString()} and ${new Date(safe.newest).toLocaleString()}`] : []),
      `${inDoubt} in doubt: verified, not sent again`,
      `${notEligible} not eligible`,
      ...why.map((one) => `${one.orders} ${one.state}: ${one.why}`),
      ...(unknown.orders ? [`${unknown.orders} ids that no order has: ${unknown.ids.slice(0, 3).join(", ")}`] : []),
    ],
    possible: ({ preview }) => preview.token !== null,
    // Exactly what was shown, whatever fits by now.
    confirmed: ({ preview: { token } }) => ({ token }),
    done: ({ job }) => location.assign(`/dashboard/admin/fulfillment/retries/${job.id}`),
  },
};

async function preview(button) {
  const kind = PREVIEWS[button.dataset.preview];
  const content = button.dataset.content ? JSON.parse(button.dataset.content) : kind.chosen(chosen().map((row) => row.dataset.row));
  const dry = await send(kind.path, { ...content, reason: "preview", dryRun: true });
  if (!dry.ok) return say(dry.said.detail || `Refused (${dry.status})`);
  const possible = kind.possible(dry.said);
  const reason = await ask(kind.label, kind.about, { lines: kind.lines(dry.said), possible });
  if (!reason) return;
  const { ok, status, said } = await send(kind.path, { ...(kind.confirmed?.(dry.said) ?? content), reason });
  if (ok && kind.done) return kind.done(said);
  choose(null);
  await reload();
  say(ok ? said.message : said.detail || `Refused (${status})`);
}

// Browsers keep the clipboard from pages that came over plain HTTP from elsewhere.
function copied(text) {
  (navigator.clipboard?.writeText(text) ?? Promise.reject(new Error("no clipboard"))).then(
    () => say("Copied"),
    () => say("This browser does not let the page copy: select the text instead"),
  );
}

function shownOnce(secret) {
  const dialog = one("#secret");
  one("#secret-said").textContent = secret;
  one("#secret-copy").dataset.copy = secret;
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => {
      one("#secret-said").textContent = one("#secret-copy").dataset.copy = "";
      resolve();
    }, { once: true }),
  );
}

// --- the list ------------------------------------------------------------------------------------------------------

const rows = () => all("tr[data-row]");
const chosen = () => rows().filter((row) => one(".choose", row)?.checked);
let missed = new Set();

function choose(row) {
  if (row === null) all(".choose").forEach((box) => (box.checked = false));
  const count = chosen().length;
  const bar = one("#chosen");
  if (!bar) return;
  bar.hidden = count === 0;
  one("#chosen-count").textContent = count;
  if (count === 0) caughtUp();
}

// What an answer of the gateway means for a page that stays: null where there is nothing to show, or where somebody has
// asked for something else meanwhile.
async function pageOf(address, headers = {}) {
  const where = location.href;
  const answer = await got(address, { headers });
  if (answer.status === 401) leave();
  const text = answer.ok ? await answer.text() : "";
  return answer.ok && location.href === where ? new DOMParser().parseFromString(text, "text/html") : null;
}

// Parts of a page that go on, each in its place; what somebody is at stays as it is.
async function freshen() {
  if (one("dialog[open]")) return freshenSoon();
  const page = await pageOf(location.href);
  for (const old of page ? all("[data-fresh]") : []) {
    const now = page.getElementById(old.id);
    if (now && old.contains(document.activeElement)) freshen.held = true;
    else if (now) old.replaceChildren(...now.childNodes);
  }
  tellTimes();
}

// What stayed as it was because somebody was at it is made fresh when they leave it.
document.addEventListener("focusout", () => {
  if (freshen.held) freshenSoon();
  freshen.held = false;
});

function freshenSoon() {
  if (document.hidden) caughtUp.due = true;
  else freshenSoon.timer ??= setTimeout(() => {
    freshenSoon.timer = null;
    freshen();
  }, FRESHEN_MS);
}

function leave() {
  location.assign(`/dashboard/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

// What somebody asked for: the page as it is now, from its beginning.
async function reload() {
  const list = one("#list");
  const page = await pageOf(location.href, list ? { "HX-Request": "true" } : {});
  if (!page) return;
  // A press ends on what it began on, or it would be none.
  while (one("main :active")) await new Promise(requestAnimationFrame);
  const focused = document.activeElement?.closest?.("tr[data-row]")?.dataset.row;
  const inList = list?.contains(document.activeElement);
  const within = () => all("a, button, input, select, summary", one("main"));
  const place = within().indexOf(document.activeElement);
  const unfolded = all("main details").map((one) => one.open);
  if (list) list.replaceChildren(...page.body.childNodes);
  else one("main").replaceWith(page.querySelector("main"));
  window.htmx?.process(one(list ? "#list" : "main"));
  document.dispatchEvent(new Event("reloaded"));
  missed = new Set();
  tellTimes();
  if (!list) all("main details").forEach((one, n) => (one.open = unfolded[n] ?? false));
  if (focused || inList) (one(`tr[data-row="${focused}"]`) ?? rows()[0])?.focus();
  else if (!list && place >= 0) within()[place]?.focus();
}

// Rows keep their places: what changed is shown in them, what is new is counted until somebody asks for it.
function changed(logs) {
  const shown = new Map(all("[data-order]").map((place) => [place.dataset.order, place]));
  const known = logs.filter((log) => shown.has(log.order_id) && Number(shown.get(log.order_id).dataset.sequence) < log.sequence);
  count(logs.filter((log) => !shown.has(log.order_id)));
  if (known.length || (one("#fresh[data-since]:not([data-filtered])") && !rows().length)) lookSoon(known.map((log) => log.order_id));
}

// Those that belong on this page: an order of a later one is none of them.
function count(logs) {
  const fresh = one("#fresh");
  if (!fresh || !fresh.dataset.since) return;
  const since = Date.parse(fresh.dataset.since);
  for (const log of logs) if (missed.size <= MOST && Date.parse(log.created_at) >= since) missed.add(log.order_id);
  fresh.hidden = missed.size === 0;
  const said = missed.size > MOST ? `${MOST.toLocaleString("en")}+` : missed.size;
  fresh.textContent = `${said} new${fresh.dataset.filtered ? ", whatever is filtered" : ""}`;
}

function lookSoon(ids) {
  ids.forEach((id) => lookSoon.ids.add(id));
  lookSoon.timer ??= setTimeout(() => {
    const wanted = [...lookSoon.ids];
    lookSoon.ids = new Set();
    lookSoon.timer = null;
    if (document.hidden || chosen().length) caughtUp.due = true;
    else look(wanted);
  }, 400);
}
lookSoon.ids = new Set();

// The rows that are shown, where they are, as they are now; of `ids` alone or all of them.
async function look(ids = null, acted = false) {
  const list = one("tr[data-order]")?.closest("table");
  if (!list) return reload();
  const address = new URL(location.href);
  // Newer orders do not push this page's rows out of it.
  if (list.dataset.from) address.searchParams.set("cursor", list.dataset.from);
  const page = await pageOf(address, one("#list") ? { "HX-Request": "true" } : {});
  if (!page || chosen().length) return;
  for (const old of all("tr[data-order]", list)) {
    const id = old.dataset.order;
    if (ids && !ids.includes(id)) continue;
    const now = page.querySelector(`tr[data-order="${id}"]`);
    if (!now) {
      leftThis(old);
      continue;
    }
    if (now.dataset.sequence === old.dataset.sequence) continue;
    const held = acted || old.contains(document.activeElement);
    now.classList.add("changed");
    old.replaceWith(now);
    if (held) now.focus();
  }
  const cards = all(".cards", page);
  all(".cards").forEach((old, n) => {
    if (!cards[n] || old.contains(document.activeElement)) return;
    old.replaceWith(cards[n]);
    window.htmx?.process(cards[n]);
  });
  tellTimes();
}

// It moved on to where this page's question does not reach: nothing that it says is offered any more.
function leftThis(row) {
  row.classList.add("left");
  row.title = "It has changed, and is no longer of what is shown here";
  all("button, input", row).forEach((control) => control.remove());
  row.lastElementChild.textContent = "has moved on";
}

// After a pause: the rows in their places, and how many are new.
async function catchUp() {
  if (FRESH.includes(PAGE)) return freshen();
  await look();
  const top = one("#fresh") && (await pageOf(location.href, { "HX-Request": "true" }));
  const shown = new Set(rows().map((row) => row.dataset.row));
  const others = top ? all("tr[data-order]", top).filter((row) => !shown.has(row.dataset.order)) : [];
  count(others.map((row) => ({ order_id: row.dataset.order, created_at: row.dataset.made })));
  // There is no telling how many are behind a page of new ones.
  if (others.length && others.length === all("tr[data-order]", top).length) one("#fresh").textContent = `${others.length}+ new`;
}

function caughtUp() {
  if (caughtUp.due && !document.hidden && !chosen().length) {
    caughtUp.due = false;
    catchUp();
  }
}

// --- what happens elsewhere ----------------------------------------------------------------------------------------

function live(state, text) {
  const place = one("#live");
  place.dataset.state = state;
  place.textContent = text;
}

// The browser's own EventSource comes back by itself, with the id of what it had last, unless it was refused: then another
// is opened, and what was missed is looked up. A hidden page has none: a browser keeps six connections to a host for all its
// tabs together, and a seventh page would wait for ever.
function listen(again = false) {
  listen.source?.close();
  if (document.hidden) {
    caughtUp.due = true;
    return live("off", "paused");
  }
  // What happened since this page was made comes first.
  const made = again ? null : document.body.dataset.stand;
  const source = (listen.source = new EventSource(made ? `${STREAM}&since=${made}` : STREAM));
  source.onopen = () => {
    live("on", "live");
    if (!again) return;
    again = false;
    caughtUp.due = true;
    caughtUp();
  };
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return live("off", "reconnecting");
    live("off", "every 30 s");
    setTimeout(() => listen(true), AGAIN_MS);
  };
  source.addEventListener("alerts", () => {
    window.htmx?.trigger("#alerts", "alerts");
    if (PAGE === "health") freshenSoon();
  });
  source.addEventListener("providers", () => PAGE === "providers" && freshenSoon());
  source.addEventListener("changed", (event) => {
    if (PAGE === "providers") freshenSoon();
    else if (PAGE === "health") return;
    else if (document.hidden || chosen().length) caughtUp.due = true;
    else changed(JSON.parse(event.data).logs);
  });
  source.addEventListener("reset", () => {
    caughtUp.due = true;
    caughtUp();
  });
}

// As long as there is no stream; and where an order may join a list at its end.
function poll() {
  if (PAGE === "review" && !document.hidden && !one("dialog[open]")) return reload();
  if (one("#live").dataset.state === "on") return;
  caughtUp.due = true;
  caughtUp();
}

// A page that shows what was true says so.
async function askWhetherAllIsThere() {
  if (document.hidden) return;
  const answer = await got("/readyz", { signal: AbortSignal.timeout(2 * READY_MS) });
  const said = await answer.json().catch(() => ({}));
  const away = !answer.status ? "The gateway" : said.dependencies?.postgres !== "ok" ? "The database" : "";
  const place = one("#away");
  if (away === place.dataset.who) return;
  place.dataset.who = away;
  place.textContent = away && `${away} cannot be reached since ${new Date().toLocaleTimeString()}. This page shows what was so before, and comes back by itself.`;
  if (away) return;
  caughtUp.due = true;
  if (LIVE.includes(PAGE)) caughtUp();
  else if (!one("dialog[open]")) reload();
}

// --- columns -------------------------------------------------------------------------------------------------------

// A person's own: the same on a second visit, and in nobody else's address.
const columns = one("#columns");
if (columns) {
  const hidden = new Set((localStorage.getItem("hidden-columns") ?? "").split(" "));
  columns.hidden = false;
  for (const box of all("input", columns)) {
    box.checked = !hidden.has(box.value);
    one("#list").classList.toggle(`no-${box.value}`, !box.checked);
    box.addEventListener("change", () => {
      one("#list").classList.toggle(`no-${box.value}`, !box.checked);
      localStorage.setItem("hidden-columns", all("input:not(:checked)", columns).map((other) => other.value).join(" "));
    });
  }
}

// --- keys ----------------------------------------------------------------------------------------------------------

function move(by) {
  const list = rows();
  if (!list.length) return;
  const at = list.indexOf(document.activeElement?.closest?.("tr[data-row]"));
  list[Math.min(Math.max(at + by, 0), list.length - 1)].focus();
}

const KEYS = {
  "/": () => one("#q")?.focus(),
  "?": () => one("#keys").showModal(),
  j: () => move(1),
  k: () => move(-1),
  Enter: (row) => row && one(".open", row)?.click(),
  x: (row) => row && one(".choose", row)?.click(),
  r: (row) => row && one("[data-act=retry]", row)?.click(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]")) return;
  const within = event.target.closest?.("input, select, textarea, button, a, summary");
  // A dialog's button has the focus for a moment longer than its dialog is there.
  if (within?.checkVisibility() && !(within.matches(".choose") && event.key !== "Enter")) return;
  const key = KEYS[event.key];
  if (!key) return;
  event.preventDefault();
  key(event.target.closest?.("tr[data-row]"));
});

document.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest(selector);
  if (on("[data-act]")) {
    event.preventDefault();
    act(on("[data-act]"));
  } else if (on("[data-preview]")) preview(on("[data-preview]"));
  // Not a form's first button: Enter in a reason means what was asked, not to leave it.
  else if (on("[data-close]")) on("dialog").close("no");
  else if (on("#fresh")) reload();
  else if (on("#unchoose")) choose(null);
  else if (on(".choose")) choose(on("tr"));
  else if (on("[data-copy]")) copied(on("[data-copy]").dataset.copy);
  else if (on("[data-copy-json]")) copied(one("pre", on("details")).textContent);
});

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-api]")) return;
  event.preventDefault();
  call(event.target);
});

document.addEventListener("visibilitychange", caughtUp);
document.addEventListener("htmx:responseError", ({ detail: { xhr } }) => (xhr.status === 401 ? leave() : say("This could not be looked up now: try again")));
document.addEventListener("htmx:sendError", () => say("The gateway cannot be reached now"));
document.addEventListener("htmx:afterSwap", () => {
  missed = new Set();
  // What the cards show goes with the next search.
  const current = one(".cards [aria-current]");
  if (current && one("#filters")) for (const name of ["status", "state"]) one(`#filters [name=${name}]`).value = current.dataset[name] ?? "";
  tellTimes();
});

// A page whose subject goes on.
setInterval(() => one("[data-refresh]") && !document.hidden && !one("dialog[open]") && reload(), 2000);
const again = one("[data-again]");
if (again) setInterval(async () => (await got(location.href)).ok && location.reload(), 1000 * Number(again.dataset.again));
tellTimes();
setInterval(tellTimes, 1000);
if (CSRF) setInterval(askWhetherAllIsThere, READY_MS);
if (LIVE.includes(PAGE) || FRESH.includes(PAGE)) {
  listen();
  document.addEventListener("visibilitychange", () => listen(true));
  setInterval(poll, POLL_MS);
}
