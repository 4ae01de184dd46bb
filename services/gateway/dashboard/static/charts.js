// The charts: of /api/admin/fulfillment/stats on the health page, of balances on the providers'.
"use strict";

const ink = () => getComputedStyle(document.body).color;
// As the page shows it now, by daylight or in the dark.
function colour(name) {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
const width = () => document.querySelector(".chart").clientWidth;
const charts = new Map();

// The day where it begins, else the time of day; by the reader's clock.
function moment(at) {
  const time = new Date(1000 * at);
  const midnight = time.getHours() === 0 && time.getMinutes() === 0;
  return midnight
    ? time.toLocaleDateString([], { day: "numeric", month: "short" })
    : time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

// What is longer than its place is rounded.
const figure = (value) => value.toLocaleString("en", Math.abs(value) < 1e6 ? {} : { notation: "compact" });

function draw(id, times, series) {
  const place = document.getElementById(id);
  const data = [times, ...series.map((one) => one.values)];
  if (charts.has(id)) return charts.get(id).setData(data);
  const axis = { stroke: ink(), grid: { stroke: "#8884" }, ticks: { stroke: "#8884" }, size: 70 };
  const options = {
    width: width(),
    height: 220,
    series: [{}, ...series.map(({ label, stroke, dash }) => ({ label, stroke, dash, width: 2, spanGaps: false }))],
    // A single moment is shown within its hour; uPlot would have years.
    scales: { x: { range: (chart, from, to) => (chart.data[0].length === 1 ? [from - 1800, from + 1800] : [from, to]) } },
    axes: [{ ...axis, size: 36, values: (_chart, times) => times.map(moment) }, { ...axis, values: (_chart, figures) => figures.map(figure) }],
  };
  charts.set(id, new uPlot(options, data, place));
}

async function load() {
  const bucket = document.getElementById("bucket").value;
  const answer = await fetch(`/api/admin/fulfillment/stats?bucket=${bucket}`).catch(() => ({ ok: false }));
  if (!answer.ok) return;
  const said = await answer.json();
  // What holds nothing is not said: it is nothing all the same.
  const width_s = { minute: 60, hour: 3600, day: 86400 }[bucket];
  const there = new Map(said.buckets.map((one) => [Date.parse(one.start) / 1000, one]));
  const times = [];
  for (let at = Date.parse(said.from) / 1000; at < Date.parse(said.to) / 1000; at += width_s) times.push(at);
  const of = (pick, none = null) => times.map((at) => (there.has(at) ? pick(there.get(at)) : none));
  draw("orders-chart", times, [
    { label: "ordered", stroke: ink(), values: of((one) => one.total, 0) },
    { label: "delivered", stroke: colour("good"), values: of((one) => one.success, 0) },
    { label: "failed", stroke: colour("bad"), dash: [6, 4], values: of((one) => one.failed, 0) },
  ]);
  draw("rate-chart", times, [{ label: "success rate", stroke: colour("good"), values: of((one) => one.successRate) }]);
  draw("latency-chart", times, [
    { label: "p50", stroke: colour("act"), values: of((one) => one.latencyS?.p50 ?? null) },
    { label: "p99", stroke: colour("doubt"), dash: [6, 4], values: of((one) => one.latencyS?.p99 ?? null) },
  ]);
  vitals();
  const { totals } = said;
  const cards = [
    ["orders", totals.total], ["success rate", totals.successRate === null ? "–" : `${totals.successRate} %`],
    ["attempts an order", totals.attempts.perOrder ?? "–"], ["p50", totals.latencyS ? `${totals.latencyS.p50} s` : "–"],
    ["p99", totals.latencyS ? `${totals.latencyS.p99} s` : "–"],
  ];
  document.getElementById("totals").replaceChildren(...cards.map(([label, value]) => {
    const card = document.createElement("span");
    const figure = document.createElement("b");
    figure.textContent = value;
    card.append(figure, ` ${label}`);
    return card;
  }));
  document.querySelector("#failures tbody").replaceChildren(...said.failures.map((one) => {
    const row = document.createElement("tr");
    for (const text of [one.errorCode ?? "none", one.orders]) row.insertCell().textContent = text;
    return row;
  }));
}

// Ten seconds of which nothing was said are a gap.
async function vitals() {
  const answer = await fetch("/api/admin/fulfillment/vitals").catch(() => ({ ok: false }));
  if (!answer.ok) return;
  const { points, everyS } = await answer.json();
  if (!points.length) return;
  const there = new Map(points.map((one) => [Date.parse(one.at) / 1000, one]));
  const last = Math.max(...there.keys());
  const times = [];
  for (let at = last - 3600; at <= last; at += everyS) times.push(at);
  const of = (name) => times.map((at) => there.get(at)?.[name] ?? null);
  draw("late-chart", times, [
    { label: "due", stroke: colour("bad"), values: of("overdueS") },
    { label: "to be taken up", stroke: colour("waiting"), dash: [6, 4], values: of("waitingS") },
  ]);
  draw("lag-chart", times, [{ label: "records", stroke: colour("act"), values: of("lagRecords") }]);
}

function restart() {
  charts.forEach((chart) => chart.destroy());
  charts.clear();
  load();
}

async function balances() {
  for (const place of document.querySelectorAll("[data-balance]")) {
    const answer = await fetch(`/api/admin/providers/${place.dataset.balance}/balance`).catch(() => ({ ok: false }));
    if (!answer.ok) continue;
    const { balance } = await answer.json();
    if (!balance.length) {
      place.textContent = "No balance was told yet.";
      continue;
    }
    draw(place.id, balance.map((one) => Date.parse(one.at) / 1000), [
      { label: "available", stroke: colour("good"), values: balance.map((one) => one.availableMb) },
      { label: "reserved", stroke: colour("doubt"), dash: [6, 4], values: balance.map((one) => one.reservedMb) },
    ]);
  }
}

window.addEventListener("resize", () => charts.forEach((chart) => chart.setSize({ width: width(), height: 220 })));
if (document.getElementById("bucket")) {
  document.getElementById("bucket").addEventListener("change", restart);
  load();
  setInterval(() => document.hidden || load(), 5000);
} else {
  balances();
  setInterval(() => document.hidden || balances(), 60000);
  // The places of the charts are new ones.
  document.addEventListener("reloaded", () => {
    charts.clear();
    balances();
  });
}
